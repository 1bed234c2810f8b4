"""Certificates that cannot work are refused before anything starts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.certificates import Certificates, certificates

from bettong_kit.errors import ConfigError
from bettong_kit.membership.certificates import check_authority, check_certificate
from bettong_kit.membership.settings import ClusterSettings


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("theirs"), "theirs")


def test_good_ones_are_taken(ours: Certificates) -> None:
    """A certificate in its time, with its key, by an authority."""
    check_authority(ours.ca, "--x")
    check_certificate(ours.cert, ours.key, "--x")
    settings = ClusterSettings(
        etcd="a", blobs="s3://bucket", etcd_ca=ours.ca, etcd_cert=ours.cert, etcd_key=ours.key
    ).etcd_settings()
    assert (settings.ca_file, settings.cert_file, settings.key_file) == (ours.ca, ours.cert, ours.key)


def test_several_authorities_may_be_in_one_file(ours: Certificates, theirs: Certificates, tmp_path: Path) -> None:
    """As while one replaces the other."""
    both = tmp_path / "both.crt"
    both.write_text(ours.ca.read_text() + theirs.ca.read_text())
    check_authority(both, "--x")


@pytest.mark.parametrize(("days", "what"), [(400, "expired 20"), (-400, "begins to hold 20")])
def test_the_wrong_time_is_named(ours: Certificates, days: int, what: str) -> None:
    """An expired certificate is refused with the day, and so is one of the future."""
    now = datetime.now(UTC) + timedelta(days=days)
    with pytest.raises(ConfigError, match=f"^--x: the certificate .*ours-ca.crt {what}"):
        check_authority(ours.ca, "--x", now=now)
    with pytest.raises(ConfigError, match=f"^--x: the certificate .*ours.crt {what}"):
        check_certificate(ours.cert, ours.key, "--x", now=now)


def test_a_key_of_another_certificate_is_refused(ours: Certificates, theirs: Certificates) -> None:
    """The message says that they do not belong together."""
    with pytest.raises(ConfigError, match="the key does not belong to the certificate"):
        check_certificate(ours.cert, theirs.key, "--x")


def test_what_is_no_certificate_is_refused(ours: Certificates, tmp_path: Path) -> None:
    """Neither text nor a folder nor a missing file passes for one."""
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(ConfigError, match="text is no PEM file that can be used"):
        check_authority(text, "--x")
    with pytest.raises(ConfigError, match="none cannot be read: No such file"):
        check_authority(tmp_path / "none", "--x")
    with pytest.raises(ConfigError, match="none cannot be read: No such file"):
        check_certificate(ours.cert, tmp_path / "none", "--x")
    with pytest.raises(ConfigError, match="text is no PEM file that can be used"):
        check_certificate(text, ours.key, "--x")
