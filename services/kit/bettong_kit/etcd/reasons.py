"""Why a connection to etcd failed, in words that name what to change: gRPC tells it in those of its TLS library."""

import re

_HEAD = re.compile(r"failed to connect to all addresses; last error: \w+: (?:ipv[46]|unix):\S+ ")
_UNACCEPTED = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)")
_KNOWN = (
    (
        "Hostname Verification Check failed",
        "etcd's certificate is for another name than its address (etcd_server_name)",
    ),
    ("TSI_DATA_CORRUPTED", "etcd does not accept our certificate, or wants one (etcd_cert)"),
    ("Handshake read failed", "the TLS handshake was broken off; does etcd speak TLS? (etcd_ca)"),
)


def reason_of(details: str) -> str:
    """Return in one line why etcd cannot be reached, from what gRPC says of a call."""
    unaccepted = _UNACCEPTED.search(details)
    if unaccepted:
        return f"etcd's certificate is not accepted: {unaccepted[1].strip()} (etcd_ca)"
    for phrase, reason in _KNOWN:
        if phrase in details:
            return reason
    text, found = _HEAD.subn("", details)
    if found and text == "Socket closed":
        # Of a connection that never was one; an etcd that ends breaks those that are.
        return "etcd closed the connection at once; does it want TLS? (etcd_ca)"
    return text
