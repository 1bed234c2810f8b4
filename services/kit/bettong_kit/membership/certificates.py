"""Looking at certificates before they are used: gRPC says of a bad one only that a connection failed."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bettong_kit.errors import ConfigError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_LONG_FORM = 0x80
_VERSION = 0xA0
_FORMATS = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""UTCTime and GeneralizedTime, as certificates have them."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate holds."""

    begins: datetime
    ends: datetime


def check_authority(file: Path, origin: str, *, now: datetime | None = None) -> None:
    """Check a file of authorities.

    Raises:
        ConfigError: It cannot be read, has no certificate, or all of them are out of date; the message begins with *origin*.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(file, origin, error) from error
    found = _validities(file)
    moment = now or datetime.now(UTC)
    if not any(each.begins <= moment <= each.ends for each in found):
        raise _out_of_date(file, origin, found[0], moment)


def check_certificate(file: Path, key: Path, origin: str, *, now: datetime | None = None) -> None:
    """Check our own certificate and its key.

    Raises:
        ConfigError: One cannot be read, they do not belong together, or the certificate is out of date.
    """
    for each in (file, key):
        try:
            each.read_bytes()
        except OSError as error:
            raise _unusable(each, origin, error) from error
    try:
        # The password keeps OpenSSL from asking for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, key, password="-")  # noqa: S106 - see above
    except (OSError, ssl.SSLError) as error:
        raise _unusable(file, origin, error) from error
    # The first one is ours, those behind it belong to the chain.
    own, moment = _validities(file)[0], now or datetime.now(UTC)
    if not own.begins <= moment <= own.ends:
        raise _out_of_date(file, origin, own, moment)


def _unusable(file: Path, origin: str, error: OSError) -> ConfigError:
    if not isinstance(error, ssl.SSLError):
        return ConfigError(f"{origin}: {file} cannot be read: {error.strerror}")
    if "MISMATCH" in (error.reason or ""):
        return ConfigError(f"{origin}: the key does not belong to the certificate {file}")
    return ConfigError(f"{origin}: {file} is no PEM file that can be used ({error.reason or 'damaged or encrypted'})")


def _out_of_date(file: Path, origin: str, validity: Validity, now: datetime) -> ConfigError:
    what = f"expired {validity.ends:%Y-%m-%d}" if now > validity.ends else f"begins to hold {validity.begins:%Y-%m-%d}"
    return ConfigError(f"{origin}: the certificate {file} {what}; it is {now:%Y-%m-%d}")


def _validities(file: Path) -> list[Validity]:
    blocks = _PEM.findall(file.read_text(encoding="ascii", errors="replace"))
    return [validity_of(ssl.PEM_cert_to_DER_cert(block)) for block in blocks]


def validity_of(der: bytes) -> Validity:
    """Return from when until when a certificate holds.

    The standard library tells it only of the other side of a connection, and a library for it would be a dependency for two dates.
    A certificate is SEQUENCE { SEQUENCE { [0] version?, serial, algorithm, issuer, SEQUENCE { begins, ends }, … }, … }.
    """
    (_, certificate), *_ = _elements(der)
    (_, signed), *_ = _elements(certificate)
    parts = list(_elements(signed))
    at = 4 if parts[0][0] == _VERSION else 3
    begins, ends = (_time(tag, content) for tag, content in _elements(parts[at][1]))
    return Validity(begins, ends)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element."""
    at = 0
    while at < len(der):
        tag, size = der[at], der[at + 1]
        at += 2
        if size & _LONG_FORM:
            count = size & ~_LONG_FORM
            size = int.from_bytes(der[at : at + count])
            at += count
        yield tag, der[at : at + size]
        at += size


def _time(tag: int, content: bytes) -> datetime:
    return datetime.strptime(content.decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC)
