"""How a process finds its cluster: etcd, the cluster's name, its own name and address, and where models are kept.

Every role reads the same settings: `load_cluster_settings`. Each is a flag, a variable and a line of the settings file, as in
`bettong_kit.config`; each message names the flag and the variable.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bettong_kit.config import SettingsT, load_settings
from bettong_kit.errors import ConfigError
from bettong_kit.etcd.settings import EtcdSettings
from bettong_kit.membership.certificates import check_authority, check_certificate
from bettong_kit.membership.members import check_name

PREFIX = "BETTONG_"
FILE_VARIABLE = "BETTONG_CONFIG"
ETCD_PORT = 2379
_MAX_PORT = 65_535
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(:(?P<port>[0-9]{1,5}))?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/].*)?")
_BLOBS_FORMS = "file:///folder or s3://bucket/prefix"
_WILDCARDS = frozenset({"", "0.0.0.0", "[::]", "::"})  # noqa: S104 - addresses that nobody can be reached at


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What makes a process a member of a cluster; checked when it is made, certificates included."""

    etcd: str = ""
    """Servers of etcd, `host[:port]` with commas; the port is 2379 unless given."""
    cluster: str = "default"
    """Name of the cluster; several may share an etcd."""
    name: str = ""
    """Name of this member, unique in its role; empty is the name of the host."""
    advertise: str = ""
    """`host[:port]` at which the others reach this member; empty is the address that it listens on."""
    blobs: str = ""
    """Where model files are kept for all members: `file:///folder` or `s3://bucket/prefix`; routers need none."""
    etcd_user: str = ""
    """User of etcd; a client certificate needs none."""
    etcd_password_file: Path | None = None
    """File that holds the user's password."""
    etcd_ca: Path | None = None
    """PEM file of the authorities that etcd's certificates are checked against; turns TLS on."""
    etcd_cert: Path | None = None
    """PEM file of this process's certificate, where etcd asks for one."""
    etcd_key: Path | None = None
    """PEM file of the certificate's key."""
    etcd_server_name: str = ""
    """Name that is expected in etcd's certificates instead of the host."""
    link_ca: Path | None = None
    """PEM file of the authorities of members' certificates; then members take nothing but proven links from each other."""
    link_cert: Path | None = None
    """PEM file of this member's certificate, for the host that others reach it at."""
    link_key: Path | None = None
    """PEM file of that certificate's key."""

    def __post_init__(self) -> None:
        """Check everything that can be checked without a connection.

        Raises:
            ConfigError: Names the flag, the variable, what was given and what was expected.
        """
        self._check_etcd()
        check_name("cluster", self.cluster)
        check_name("member", self.member_name)
        if self.advertise:
            _address("advertise", self.advertise)
        if self.blobs:
            _check_blobs(self.blobs)
        self._check_credentials()

    @property
    def member_name(self) -> str:
        """Return the name of this member: the one that was given, or what can be used of the host's."""
        return self.name or re.sub(r"[^a-z0-9._-]+", "-", socket.gethostname().lower())[:63].strip("-._")

    @property
    def blobs_folder(self) -> Path | None:
        """Return the folder of `file://`, None for anything else."""
        return Path(self.blobs.removeprefix("file://")) if self.blobs.startswith("file://") else None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return `host:port` of each server of etcd."""
        return tuple(_endpoint(part) for part in _parts(self.etcd))

    def advertised(self, bound: str) -> str:
        """Return `host:port` at which the others reach a member that listens on *bound*, itself `host:port`."""
        bound_host, _, bound_port = bound.rpartition(":")
        if not self.advertise:
            return f"{socket.gethostname() if bound_host in _WILDCARDS else bound_host}:{bound_port}"
        host, port = _address("advertise", self.advertise)
        return f"{host}:{port or bound_port}"

    def etcd_settings(self) -> EtcdSettings:
        """Return how etcd is reached.

        Raises:
            ConfigError: The password cannot be read.
        """
        return EtcdSettings(
            self.endpoints,
            user=self.etcd_user,
            password=_password(self.etcd_password_file) if self.etcd_password_file else "",
            ca_file=self.etcd_ca,
            cert_file=self.etcd_cert,
            key_file=self.etcd_key,
            server_name=self.etcd_server_name,
        )

    def _check_etcd(self) -> None:
        if not self.endpoints:
            raise ConfigError(f"{_origin('etcd')} is missing; expected host:port of etcd, several with commas")
        if self.etcd_ca is None and any(part.startswith("https://") for part in _parts(self.etcd)):
            raise ConfigError(f"{_origin('etcd')}: https:// needs the authorities of etcd, {_origin('etcd_ca')}")

    def _check_credentials(self) -> None:
        if bool(self.etcd_user) != bool(self.etcd_password_file):
            raise ConfigError(f"{_origin('etcd_user')} and {_origin('etcd_password_file')} are given together")
        if bool(self.etcd_cert) != bool(self.etcd_key):
            raise ConfigError(f"{_origin('etcd_cert')} and {_origin('etcd_key')} are given together")
        if self.etcd_cert and not self.etcd_ca:
            raise ConfigError(f"{_origin('etcd_cert')} needs the authorities of etcd, too: {_origin('etcd_ca')}")
        if self.etcd_password_file:
            _password(self.etcd_password_file)
        if self.etcd_ca:
            check_authority(self.etcd_ca, _origin("etcd_ca"))
        if self.etcd_cert and self.etcd_key:
            check_certificate(self.etcd_cert, self.etcd_key, f"{_origin('etcd_cert')}, {_origin('etcd_key')}")
        self._check_links()

    def _check_links(self) -> None:
        given = [file for file in (self.link_ca, self.link_cert, self.link_key) if file]
        if given and not (self.link_ca and self.link_cert and self.link_key):
            names = ", ".join(map(_origin, ("link_ca", "link_cert", "link_key")))
            raise ConfigError(f"{names} are given together")
        if self.link_ca and self.link_cert and self.link_key:
            check_authority(self.link_ca, _origin("link_ca"))
            check_certificate(self.link_cert, self.link_key, f"{_origin('link_cert')}, {_origin('link_key')}")


def load_cluster_settings(
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    *,
    file: Path | None = None,
    beside: tuple[type[object], ...] = (),
) -> ClusterSettings:
    """Read the settings: flags override `BETTONG_…` variables, which override the file.

    Args:
        flags: Settings by name; those that are None count as not given, names of other settings are ignored.
        environment: The variables of the process.
        file: Settings file, which may also hold the settings of *beside*.
        beside: Other settings that are read from the same file.

    Raises:
        ConfigError: Names the setting, where its value came from and what was expected.
    """
    return load_settings(ClusterSettings, prefix=PREFIX, flags=flags, environment=environment, file=file, beside=beside)


def load_member_settings(
    kind: type[SettingsT], flags: Mapping[str, object], environment: Mapping[str, str], *, needs_blobs: bool = True
) -> tuple[SettingsT, ClusterSettings]:
    """Read the settings of a role and of its cluster.

    Args:
        kind: Settings of the role.
        flags: Settings of both by name; those that are None count as not given.
        environment: The variables of the process; `BETTONG_CONFIG` names a file that may hold settings of both.
        needs_blobs: Whether the role touches model files.

    Raises:
        ConfigError: Names the setting, where its value came from and what was expected.
    """
    named = environment.get(FILE_VARIABLE)
    file = Path(named) if named else None
    own = load_settings(kind, prefix=PREFIX, flags=flags, environment=environment, file=file, beside=(ClusterSettings,))
    cluster = load_cluster_settings(flags, environment, file=file, beside=(kind,))
    if needs_blobs and not cluster.blobs:
        raise ConfigError(f"{_origin('blobs')} is missing; expected {_BLOBS_FORMS}")
    return own, cluster


def _origin(name: str) -> str:
    return f"--{name.replace('_', '-')} ({PREFIX}{name.upper()})"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _endpoint(text: str) -> str:
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme not in {"http", "https"}:
        raise ConfigError(f"{_origin('etcd')}: '{text}' has scheme '{scheme}'; expected host:port, http:// or https://")
    host, port = _address("etcd", rest.rstrip("/"))
    return f"{host}:{port or ETCD_PORT}"


def _address(setting: str, text: str) -> tuple[str, int]:
    """Return host and port, 0 if none is given."""
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or port == 0 or (port or 0) > _MAX_PORT:
        raise ConfigError(f"{_origin(setting)}: '{text}' is no address; expected host or host:port")
    return match["host"], port or 0


def _check_blobs(text: str) -> None:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in {"file", "s3"}:
        raise ConfigError(f"{_origin('blobs')}: '{text}' is unknown; expected {_BLOBS_FORMS}")
    if scheme == "file" and not Path(rest).is_absolute():
        raise ConfigError(f"{_origin('blobs')}: '{text}' is no absolute folder; expected file:///folder")
    if scheme == "s3" and not _BUCKET.fullmatch(rest):
        raise ConfigError(f"{_origin('blobs')}: '{text}' names no bucket; expected s3://bucket/prefix")


def _password(file: Path) -> str:
    origin = _origin("etcd_password_file")
    try:
        password = file.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"{origin}: {file} cannot be read: {reason}") from error
    if not password:
        raise ConfigError(f"{origin}: {file} is empty")
    return password
