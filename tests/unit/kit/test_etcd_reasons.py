"""What people are told of a connection to etcd that fails."""

import pytest

from bettong_kit.etcd.reasons import reason_of

HEAD = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:2379: "
VERIFY = "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: "


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            f"{HEAD}{VERIFY}certificate has expired: OK",
            "etcd's certificate is not accepted: certificate has expired (etcd_ca)",
        ),
        (
            f"{HEAD}Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.",
            "etcd_server_name",
        ),
        (f"{HEAD}Unwrap failed (TSI_DATA_CORRUPTED)", "etcd_cert"),
        (f"{HEAD}Handshake read failed (Socket closed)", "does etcd speak TLS"),
        (f"{HEAD}Socket closed", "does it want TLS"),
        (
            f"{HEAD}Failed to connect to remote host: Connection refused",
            "Failed to connect to remote host: Connection refused",
        ),
        ("Stream removed (Socket closed)", "Stream removed (Socket closed)"),
    ],
)
def test_a_reason_names_what_to_change(details: str, reason: str) -> None:
    """Short, without addresses that were named already; what is not known is passed on."""
    assert reason in reason_of(details)
    assert HEAD not in reason_of(details)
