"""Whom calls are forwarded to, also while processes come, go and lose their leases."""

import dataclasses

import pytest

from bettong_domain.deployments import ReplicaState
from bettong_domain.forwarding import ForwardingTable, answered, to_executors, to_routers
from bettong_domain.hosts import KEEP_S, Host, Running, Seen, look
from bettong_domain.pipelines import PipelineKey

P1 = PipelineKey("p", 1)
READY, LOADING, LEAVING = ReplicaState.READY, ReplicaState.LOADING, ReplicaState.LEAVING
FAILED = ReplicaState.FAILED


def executor(name: str, state: ReplicaState | None = READY, *, draining: bool = False, epoch: int = 1) -> Host:
    running = {P1: Running(state)} if state else {}
    return Host("executor", name, f"{name}:1", f"process-{name}", epoch, draining=draining, running=running)


def router(name: str, *, reported: bool = True, draining: bool = False) -> Host:
    return Host("router", name, f"{name}:1", f"process-{name}", 1, draining=draining, reported=reported)


def seen(*hosts: Host) -> Seen:
    return Seen({host.id: host for host in hosts})


def names(table: ForwardingTable) -> list[str]:
    return [peer.name for peer in table.replicas.get(P1, table.routers)]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([executor("a"), executor("b", LOADING), executor("c", FAILED), executor("d", None)], ["executor/a"]),
        ([executor("a", LEAVING), executor("b"), executor("c", LOADING)], ["executor/b", "executor/a"]),
        ([executor("a", LEAVING), executor("b"), executor("c")], ["executor/b", "executor/c"]),
        ([executor("a", LEAVING), executor("d")], ["executor/d", "executor/a"]),
        ([executor("a", draining=True), executor("d")], ["executor/d"]),
        ([executor("a", draining=True), executor("d", LEAVING)], ["executor/d"]),
        ([executor("a", draining=True)], ["executor/a"]),
        ([executor("a", LOADING)], []),
    ],
)
def test_calls_go_to_who_answers(hosts: list[Host], expected: list[str]) -> None:
    """Ready ones first, leaving ones while not all of b and c are ready, draining ones only when there is nobody else."""
    assert names(to_executors(seen(*hosts), {"p": ["b", "c"]})) == expected


def test_tables_name_only_whom_they_need() -> None:
    """A process that nothing is sent to gets no connection."""
    table = to_executors(seen(executor("a"), executor("b", None), router("r")), {})
    assert {peer.name for peers in table.replicas.values() for peer in peers} == {"executor/a"}
    assert table.routers == ()


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([router("a"), router("b"), executor("e")], ["router/a", "router/b"]),
        ([router("a"), router("b", reported=False)], ["router/a"]),
        ([router("a", draining=True), router("b")], ["router/b"]),
        ([router("a", draining=True)], ["router/a"]),
        ([executor("e")], []),
    ],
)
def test_a_gateway_asks_routers_that_know_where_everything_is(hosts: list[Host], expected: list[str]) -> None:
    """A router that has just joined gets nothing before it says that it knows; one that leaves nothing more."""
    assert names(to_routers(seen(*hosts))) == expected


def gone_for(seconds: float, *, linked: bool = True, others: tuple[Host, ...] = ()) -> Seen:
    before = look(Seen(), [executor("a")], now_s=0, linked=())
    at_once = look(before, others, now_s=10, linked={"executor/a"} if linked else ())
    return look(at_once, others, now_s=10 + seconds, linked={"executor/a"} if linked else ())


def test_who_vanishes_is_kept_while_connected() -> None:
    """A lease that was lost does not end what a process does; the time is bounded."""
    assert answered(gone_for(KEEP_S - 1)) == {P1}
    assert names(to_executors(gone_for(1), {})) == ["executor/a"]
    assert answered(gone_for(KEEP_S)) == frozenset()
    assert answered(gone_for(0, linked=False)) == frozenset()


def test_who_vanishes_is_not_needed_once_another_is_ready() -> None:
    """What it ran is ready elsewhere, so nothing is sent to it any more; one that only loads is no replacement."""
    assert names(to_executors(gone_for(1, others=(executor("b"),)), {})) == ["executor/b"]
    assert names(to_executors(gone_for(1, others=(executor("b", LOADING),)), {})) == ["executor/a"]


def test_a_process_that_joins_again_still_runs_what_it_ran() -> None:
    """Its lease was made anew with a higher epoch: until its next report, the last one of the same process counts."""
    silent = dataclasses.replace(executor("a", None, epoch=2), reported=False)
    for before in (look(Seen(), [executor("a")], now_s=0, linked=()), gone_for(1)):
        again = look(before, [silent], now_s=20, linked=())
        assert names(to_executors(again, {})) == ["executor/a"]
        assert again.hosts["executor/a"].epoch == 2
        assert not again.gone


def test_another_process_of_the_name_runs_nothing_yet() -> None:
    """What is known of a dead process says nothing of the one that has its name now."""
    before = look(Seen(), [executor("a")], now_s=0, linked=())
    other = dataclasses.replace(executor("a", None, epoch=2), reported=False, process="another")
    assert answered(look(before, [other], now_s=1, linked={"executor/a"})) == frozenset()


def test_the_last_router_is_kept_as_well() -> None:
    """A gateway without a router inside goes on with one whose lease was lost, until another knows everything."""
    before = look(Seen(), [router("a")], now_s=0, linked=())
    alone = look(before, [], now_s=1, linked={"router/a"})
    assert names(to_routers(alone)) == ["router/a"]
    assert names(to_routers(look(alone, [router("b")], now_s=2, linked={"router/a"}))) == ["router/b"]


def test_executors_behind_routers_are_kept_while_routers_pass_on() -> None:
    """All leases end at once, as when etcd was away: a gateway knows of executors only what its routers say."""
    passing = dataclasses.replace(router("r"), running={P1: Running(READY)})
    before = look(Seen(), [executor("a"), passing], now_s=0, linked=(), through_routers=True)
    nobody = look(before, [], now_s=1, linked={"router/r"}, through_routers=True)
    assert answered(nobody) == {P1}
    assert names(to_routers(nobody)) == ["router/r"]
    silent = dataclasses.replace(router("r", reported=False), epoch=2)
    again = look(nobody, [silent], now_s=2, linked={"router/r"}, through_routers=True)
    assert answered(again) == {P1}
    assert answered(look(again, [router("r")], now_s=3, linked={"router/r"}, through_routers=True)) == frozenset()
    assert answered(look(before, [], now_s=1, linked=(), through_routers=True)) == frozenset()
