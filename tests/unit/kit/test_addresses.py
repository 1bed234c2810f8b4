"""Addresses to listen on."""

import socket

import pytest

from bettong_kit.addresses import check_free
from bettong_kit.errors import AddressInUseError


def test_a_free_address_is_fine() -> None:
    """Nothing is said, and the port can be taken afterwards."""
    check_free("127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    check_free("127.0.0.1", port)


def test_a_taken_port_is_told_with_a_way_out() -> None:
    """The address, what it is for, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUseError) as caught:
            check_free("127.0.0.1", port, what="the control port", choose="choose another with --port")
    assert caught.value.message == (
        f"cannot listen on 127.0.0.1:{port}, the control port: it is in use by another process; choose another with --port"
    )


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "this machine has no address 192.0.2.1"), ("no..host", "nothing is known of a host 'no..host'")],
)
def test_a_host_that_is_not_ours_is_told_apart(host: str, reason: str) -> None:
    """Another port would not help."""
    with pytest.raises(AddressInUseError, match=reason):
        check_free(host, 0)
