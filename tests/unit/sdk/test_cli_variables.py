"""Misspelled variables."""

import pytest

from bettong._cli.variables import misspelled, warn_misspelled


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("LANS", "LANES"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("PORT", "DATA_PORT"),
        ("LOG_FORMAT", "LOG_STYLE"),
        ("ETCD_PASSWORD", "ETCD_PASSWORD_FILE"),
        ("MAX_INFLIGHT", "MAX_IN_FLIGHT"),
    ],
)
def test_a_misspelled_setting_is_found(given: str, meant: str) -> None:
    """The nearest setting of any role is meant."""
    assert misspelled({f"BETTONG_{given}": "1", "PATH": "/"}) == {given: meant}


def test_what_is_known_or_somebody_elses_is_left_alone() -> None:
    """Variables of clients, of other roles, of local clusters and of tests are no mistakes."""
    names = (
        "URL",
        "CONFIG",
        "REQUEST_TIMEOUT",
        "LANES",
        "MEMORY_BYTES",
        "CLUSTER",
        "CLUSTER_GATEWAYS",
        "SEED",
        "CHAOS_S",
    )
    assert misspelled({f"BETTONG_{name}": "1" for name in names}) == {}


def test_all_of_them_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that starts says it once."""
    warn_misspelled({"BETTONG_LANS": "2", "BETTONG_HOSTS": "h"})
    assert capsys.readouterr().err == (
        "bettong: BETTONG_HOSTS is no setting, did you mean BETTONG_HOST? "
        "BETTONG_LANS is no setting, did you mean BETTONG_LANES?\n"
    )
