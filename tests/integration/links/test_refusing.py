"""Peers that are not who they should be: no call is sent to them, and whoever looks hears why."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from asking import Asker, asking
from engines import NAMES, Role, Roles, plain
from links import PATIENCE_S, Taken, WitnessServer, echo, until, witnesses

import bettong_engine


@pytest.fixture
def gateway(roles: Roles) -> Role:
    """Accept requests for `p`."""
    role = roles.gateway()
    role.serve(plain())
    return role


@pytest.fixture
async def client(gateway: Role) -> AsyncIterator[Asker]:
    """Ask the gateway."""
    async with asking(gateway.address) as asker:
        yield asker


@pytest.fixture
async def right() -> AsyncIterator[WitnessServer]:
    """Run a peer that is who it should be, and gets each call as its first."""

    def answer(taken: Taken) -> None:
        assert taken.call.attempt == 0
        echo(taken)

    async with witnesses(1, answer, member="right") as (server,):
        yield server


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Let the engine log what it usually does."""
    bettong_engine.set_log_level("info")
    yield capfd
    bettong_engine.set_log_level("error")


def why(gateway: Role, address: str) -> str:
    """Return what the status says of a peer."""
    (reason,) = (peer.last_error for peer in gateway.links.peers if peer.address == address)
    return reason


async def ask_until_refused(gateway: Role, client: Asker, address: str) -> str:
    """Ask until the peer at *address* has been tried, and return why it was left out. Every request is answered."""
    async with asyncio.timeout(PATIENCE_S):
        while not why(gateway, address):
            assert await client.infer(7) == 7
    return why(gateway, address)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"cluster": "other"}, "this is cluster 'tested', the peer belongs to 'other'"),
        ({"protocol": 2}, "the peer speaks version 2 of the protocol of links, we 1"),
        ({"member": "wrong"}, "{address} is executor/wrong, not executor/meant"),
        ({"role": "router", "member": "meant"}, "{address} is router/meant, not executor/meant"),
    ],
    ids=["cluster", "protocol", "name", "role"],
)
async def test_a_peer_that_is_not_the_one_gets_no_call(
    gateway: Role, client: Asker, right: WitnessServer, said: dict[str, str | int], reason: str
) -> None:
    """Its hello is read before anything is sent; the requests that chose it are tried elsewhere, for free."""
    async with witnesses(1, echo, **{"member": "meant", **said}) as (wrong,):
        NAMES[wrong.address] = "executor/meant"
        gateway.table([wrong.address, right.address], all_of=[plain()])
        assert await ask_until_refused(gateway, client, wrong.address) == reason.format(address=wrong.address)
        assert wrong.calls == 0
        assert gateway.links.retried == 0


async def test_an_executor_of_another_cluster_is_no_attempt(
    gateway: Role, client: Asker, right: WitnessServer, roles: Roles
) -> None:
    """It refuses us by itself, and says which cluster it is of."""
    wrong = roles.executor(cluster="other")
    gateway.table([wrong.address, right.address], all_of=[plain()])
    reason = await ask_until_refused(gateway, client, wrong.address)
    assert reason == "the peer refused the link: this is cluster 'other', the caller belongs to 'tested'"
    assert gateway.links.retried == 0


async def test_a_port_that_takes_no_links_is_no_attempt(
    gateway: Role, client: Asker, right: WitnessServer, roles: Roles
) -> None:
    """A gateway, for example."""
    wrong = roles.gateway()
    gateway.table([wrong.address, right.address], all_of=[plain()])
    assert "the peer refused the link" in await ask_until_refused(gateway, client, wrong.address)
    assert gateway.links.retried == 0


async def test_a_refusal_is_logged_once(
    gateway: Role, client: Asker, right: WitnessServer, logged: pytest.CaptureFixture[str]
) -> None:
    """However often the peer is asked again."""
    async with witnesses(1, echo, cluster="other") as (wrong,), witnesses(1, echo, protocol=2) as (newer,):
        gateway.table([wrong.address, right.address], all_of=[plain()])
        async with asyncio.timeout(PATIENCE_S):
            # The third is opened when the second has been refused.
            while wrong.opened.qsize() < 3:
                assert await client.infer(7) == 7
        gateway.table([wrong.address, newer.address, right.address], all_of=[plain()])
        await ask_until_refused(gateway, client, newer.address)
        lines = ""

        def last_is_there() -> bool:
            nonlocal lines
            lines += logged.readouterr().err
            return "speaks version 2" in lines

        # The log is written by another thread, in order.
        await until(last_is_there, "the refusal of the other peer is logged")
    refused = [line for line in lines.splitlines() if "belongs to 'other'" in line]
    assert len(refused) == 1, lines
    assert '"event":"peer_refused"' in refused[0]
    assert '"level":"WARN"' in refused[0]
