"""How etcd is reached; nothing here opens a connection."""

from dataclasses import dataclass
from pathlib import Path

from bettong_kit.errors import ConfigError

_SCHEMES = ("http://", "https://")
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """Where etcd is, who we are to it, and how long anything may take."""

    endpoints: tuple[str, ...]
    """`host:port` of each server; the others take over when one does not answer."""
    user: str = ""
    """Name for etcd's own users; a client certificate needs none."""
    password: str = ""
    ca_file: Path | None = None
    """Certificates that the servers' are checked against; turns TLS on."""
    cert_file: Path | None = None
    """Our certificate, where etcd asks for one."""
    key_file: Path | None = None
    server_name: str = ""
    """Name that is expected in the servers' certificates instead of their host."""
    attempt_timeout_s: float = 1.5
    """How long one server may take to answer before the next one is asked."""
    call_timeout_s: float = 10.0
    """How long a call may take with all its attempts, unless the caller has less time."""
    heartbeat_s: float = 1.0
    """How long a watch may be silent before it asks whether the server is alive; it is left after as long again."""
    max_reply_bytes: int = 64 << 20
    """Largest answer that is accepted."""

    def __post_init__(self) -> None:
        """Check everything that can be checked without a connection.

        Raises:
            ConfigError: A value makes no sense; names it.
        """
        if not self.endpoints:
            raise ConfigError("etcd: no endpoint is given; expected host:port, several with commas")
        for endpoint in self.endpoints:
            _check_endpoint(endpoint)
        if bool(self.user) != bool(self.password):
            raise ConfigError("etcd: user and password are given together or not at all")
        if bool(self.cert_file) != bool(self.key_file):
            raise ConfigError("etcd: certificate and key are given together or not at all")
        if self.cert_file and not self.ca_file:
            raise ConfigError("etcd: a client certificate needs the certificates of the servers (ca_file), too")
        for name in ("attempt_timeout_s", "call_timeout_s", "heartbeat_s", "max_reply_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"etcd: {name} must be more than 0, got {getattr(self, name)}")


def parse_endpoints(text: str) -> tuple[str, ...]:
    """Return the endpoints of a list with commas; `http://` and `https://` in front are allowed and mean nothing."""
    parts = (part.strip().rstrip("/") for part in text.split(","))
    return tuple(part.removeprefix(_SCHEMES[0]).removeprefix(_SCHEMES[1]) for part in parts if part)


def _check_endpoint(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise ConfigError(f"etcd: '{endpoint}' is no endpoint; expected host:port")
