"""The cluster as people are told it."""

from dataclasses import replace

from fakes.engine import FakeEngine
from fakes.sight import FakeSight

from bettong.internal.v1 import snapshot_pb2
from bettong_gateway.cluster_view import SeenCluster


class Loaded(FakeEngine):
    """An engine whose peers have something to do."""

    def forwarder_status(self) -> snapshot_pb2.ForwarderStatus:
        busy = snapshot_pb2.PeerStatus(name="executor/e1", outstanding=3, waiting_rows=7)
        sick = snapshot_pb2.PeerStatus(name="executor/e2", ejected=True, last_error="no sign of life")
        return snapshot_pb2.ForwarderStatus(peers=[busy, sick])


def test_members_are_told_with_what_they_run_and_how_they_do() -> None:
    """Counts come from their reports, load and errors from our own links."""
    sight = FakeSight()
    for role, name in (("executor", "e1"), ("executor", "e2"), ("router", "r1")):
        sight.join(role, name)
    sight.say("executor", "e1", p="1 ready, 2 loading", q="1 failed damaged", r="1 ready")
    view = SeenCluster(sight, Loaded(), name="c", member="g1")
    first, second, router = view.members()
    counts = (first.programs_ready, first.programs_loading, first.programs_failed)
    assert (first.name, counts, first.outstanding, first.waiting_rows) == ("e1", (2, 1, 1), 3, 7)
    assert (second.programs_ready, second.ejected, second.last_error) == (0, True, "no sign of life")
    assert (router.role, router.lanes, router.ejected) == ("router", 4, False)
    assert (view.name, view.member) == ("c", "g1")


def test_the_earliest_loss_of_etcd_is_told() -> None:
    """Several copies are followed; the one that has been old for longest says how old what is told may be."""
    sight = FakeSight()
    view = SeenCluster(sight, Loaded(), name="c", member="g1")
    assert (view.coordination().lost_since_ms, view.coordination().lost_reason) == (0, "")
    sight.desired = replace(sight.desired, lost_since_ms=5, lost_reason="refused")
    assert (view.coordination().lost_since_ms, view.coordination().lost_reason) == (5, "refused")
