"""The settings that make a process a member of a cluster."""

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from bettong_kit.errors import ConfigError
from bettong_kit.membership.settings import ClusterSettings, load_cluster_settings, load_member_settings

BLOBS = "s3://bucket/models"


@dataclass(frozen=True)
class Beside:
    """Settings of a role."""

    port: int = 1


def _settings(**values: object) -> ClusterSettings:
    return ClusterSettings(**({"etcd": "a:1", "blobs": BLOBS} | values))  # type: ignore[arg-type]


def test_flags_variables_and_file_are_read(tmp_path: Path) -> None:
    """Like every other setting; the file may also hold those of the role."""
    file = tmp_path / "bettong.toml"
    file.write_text('etcd = "x:1"\nblobs = "file:///b"\nport = 7')
    found = load_cluster_settings({"name": "g1", "port": 9}, {"BETTONG_ETCD": "a, b:4"}, file=file, beside=(Beside,))
    assert found == ClusterSettings(etcd="a, b:4", name="g1", blobs="file:///b")
    with pytest.raises(ConfigError, match="'port' is not a setting"):
        load_cluster_settings({}, {}, file=file)


def test_a_role_and_its_cluster_are_read_together(tmp_path: Path) -> None:
    """From one file that holds both, and nothing else."""
    file = tmp_path / "bettong.toml"
    file.write_text(f'etcd = "x:1"\nblobs = "{BLOBS}"\nport = 7')
    own, cluster = load_member_settings(Beside, {"name": "e1"}, {"BETTONG_CONFIG": str(file)})
    assert (own, cluster) == (Beside(port=7), ClusterSettings(etcd="x:1", blobs=BLOBS, name="e1"))
    assert load_member_settings(Beside, {"etcd": "a", "blobs": BLOBS}, {})[0] == Beside()
    with pytest.raises(ConfigError, match=r"--blobs \(BETTONG_BLOBS\) is missing; expected file:///folder or s3://"):
        load_member_settings(Beside, {"etcd": "a"}, {})
    assert load_member_settings(Beside, {"etcd": "a"}, {}, needs_blobs=False)[1] == ClusterSettings(etcd="a")
    file.write_text("ports = 7")
    with pytest.raises(ConfigError, match="'ports' is not a setting; known: advertise, blobs, cluster, etcd"):
        load_member_settings(Beside, {}, {"BETTONG_CONFIG": str(file)})


def test_endpoints_have_a_port_and_no_scheme() -> None:
    """What etcd's own tools take is taken here."""
    found = _settings(etcd="a, http://b:1/,10.0.0.1:2,[::1]:3, db-1.example.org,").endpoints
    assert found == ("a:2379", "b:1", "10.0.0.1:2", "[::1]:3", "db-1.example.org:2379")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"etcd": ""}, "--etcd (BETTONG_ETCD) is missing; expected host:port of etcd"),
        ({"etcd": " , "}, "--etcd (BETTONG_ETCD) is missing"),
        ({"etcd": "ftp://a:1"}, "--etcd (BETTONG_ETCD): 'ftp://a:1' has scheme 'ftp'"),
        ({"etcd": "a b:1"}, "--etcd (BETTONG_ETCD): 'a b:1' is no address"),
        ({"etcd": "a:0"}, "--etcd (BETTONG_ETCD): 'a:0' is no address"),
        ({"etcd": "a:65536"}, "--etcd (BETTONG_ETCD): 'a:65536' is no address"),
        ({"etcd": "a:1:2"}, "--etcd (BETTONG_ETCD): 'a:1:2' is no address"),
        ({"etcd": "https://a:1"}, "https:// needs the authorities of etcd, --etcd-ca (BETTONG_ETCD_CA)"),
        ({"cluster": "A b"}, "cluster name 'A b' must have"),
        ({"name": "-x"}, "member name '-x' must have"),
        ({"advertise": "http://h"}, "--advertise (BETTONG_ADVERTISE): 'http://h' is no address"),
        ({"blobs": "/srv/blobs"}, "--blobs (BETTONG_BLOBS): '/srv/blobs' is unknown"),
        ({"blobs": "gs://b"}, "--blobs (BETTONG_BLOBS): 'gs://b' is unknown"),
        ({"blobs": "file://blobs"}, "--blobs (BETTONG_BLOBS): 'file://blobs' is no absolute folder"),
        ({"blobs": "s3://"}, "--blobs (BETTONG_BLOBS): 's3://' names no bucket"),
        ({"etcd_user": "u"}, "--etcd-user (BETTONG_ETCD_USER) and --etcd-password-file"),
        ({"etcd_user": "u", "etcd_password_file": Path("/none")}, "/none cannot be read: No such file"),
        ({"etcd_cert": Path("c")}, "--etcd-cert (BETTONG_ETCD_CERT) and --etcd-key (BETTONG_ETCD_KEY) are given"),
        ({"etcd_cert": Path("c"), "etcd_key": Path("k")}, "needs the authorities of etcd, too: --etcd-ca"),
        ({"etcd_ca": Path("/none")}, "--etcd-ca (BETTONG_ETCD_CA): /none cannot be read: No such file"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(values: dict[str, object], message: str) -> None:
    """One line with flag, variable, what was given and what was expected."""
    with pytest.raises(ConfigError) as raised:
        _settings(**values)
    assert message in raised.value.message
    assert "\n" not in raised.value.message


def test_the_password_is_read_from_its_file(tmp_path: Path) -> None:
    """The end of the line does not belong to it; a file without one, or without text, is refused."""
    file = tmp_path / "password"
    file.write_text("secret\n")
    found = _settings(etcd_user="u", etcd_password_file=file).etcd_settings()
    assert (found.user, found.password) == ("u", "secret")
    for content, reason in ((b"\n", "is empty"), (b"\xff", "it is no text")):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=reason):
            _settings(etcd_user="u", etcd_password_file=file)


@pytest.mark.parametrize(
    ("advertise", "bound", "expected"),
    [
        ("", "127.0.0.1:5", "127.0.0.1:5"),
        ("", "0.0.0.0:5", f"{socket.gethostname()}:5"),
        ("", "[::]:5", f"{socket.gethostname()}:5"),
        ("gw.example.org", "0.0.0.0:5", "gw.example.org:5"),
        ("gw.example.org:80", "0.0.0.0:5", "gw.example.org:80"),
    ],
)
def test_the_others_are_told_an_address_that_they_can_reach(advertise: str, bound: str, expected: str) -> None:
    """What was asked for, else where it listens, else the name of the host."""
    assert _settings(advertise=advertise).advertised(bound) == expected


def test_a_member_has_the_name_of_its_host_unless_given() -> None:
    """Made of what is allowed in names."""
    assert _settings().member_name
    assert _settings(name="e1").member_name == "e1"


def test_a_folder_of_models_is_a_path() -> None:
    """Other places are none."""
    assert _settings(blobs="file:///srv/blobs").blobs_folder == Path("/srv/blobs")
    assert _settings().blobs_folder is None
