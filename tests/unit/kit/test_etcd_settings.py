"""How etcd is reached is checked before anything connects; waits grow to a bound."""

import random
from pathlib import Path

import pytest

from bettong_kit.errors import ConfigError
from bettong_kit.etcd.backoff import Backoff
from bettong_kit.etcd.client import prefix_end
from bettong_kit.etcd.settings import EtcdSettings, parse_endpoints


def test_endpoints_are_a_list_with_commas() -> None:
    """Schemes, blanks and empty parts are forgiven."""
    assert parse_endpoints("http://a:1, https://b:2/,,c:3") == ("a:1", "b:2", "c:3")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"endpoints": ()}, "no endpoint"),
        ({"endpoints": ("host",)}, "'host' is no endpoint; expected host:port"),
        ({"endpoints": ("host:0",)}, "expected host:port"),
        ({"endpoints": ("host:70000",)}, "expected host:port"),
        ({"user": "u"}, "user and password"),
        ({"key_file": Path("k")}, "certificate and key"),
        ({"cert_file": Path("c"), "key_file": Path("k")}, "ca_file"),
        ({"heartbeat_s": 0.0}, "heartbeat_s must be more than 0, got 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes: dict[str, object], told: str) -> None:
    """Nothing was connected yet."""
    with pytest.raises(ConfigError, match=told):
        EtcdSettings(**({"endpoints": ("h:1",)} | changes))  # type: ignore[arg-type]


def test_waits_grow_to_a_bound_and_begin_anew() -> None:
    """Each is drawn between nothing and a limit that doubles."""
    backoff = Backoff(first_s=1, longest_s=4, chance=_Most())
    assert [backoff.next_s() for _ in range(4)] == [1, 2, 4, 4]
    backoff.reset()
    assert backoff.next_s() == 1


class _Most(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@pytest.mark.parametrize(
    ("prefix", "end"), [("", b"\0"), ("a/", b"a0"), ("\u00ff", b"\xc3\xc0"), ("\U0010ffff", b"\xf4\x8f\xbf\xc0")]
)
def test_the_end_of_a_prefix_is_the_first_key_after_it(prefix: str, end: bytes) -> None:
    """Whatever its last character is."""
    assert prefix_end(prefix) == end
