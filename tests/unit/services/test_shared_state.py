"""What every member computes from its copy of desired state."""

from types import MappingProxyType

from bettong_catalog import converters
from bettong_catalog.records import Records
from bettong_catalog.shared import SnapshotReader, desired_prefix, placement_of, read_wishes
from bettong_domain.deployments import DeploymentConfig, Desired
from bettong_kit.etcd.client import KeyValue
from bettong_kit.etcd.mirror import Snapshot
from bettong_kit.membership.members import Member

PREFIX = desired_prefix("c")


def wish(pipeline: str, config: DeploymentConfig | None = None, *, stopped: bool = False) -> Desired:
    config = config or DeploymentConfig()
    return Desired(pipeline, 2, config, stopped=stopped, last_good_version=0, updated_ms=7, revision=9, since=5)


def snapshot(*wishes: Desired) -> Snapshot:
    entries = {
        key: KeyValue(key, converters.desired_to_stored(each).SerializeToString(), created=each.since, revision=9)
        for each in wishes
        for key in [f"{PREFIX}deployments/{each.pipeline}"]
    }
    others = {f"{PREFIX}counters/models/a": KeyValue(f"{PREFIX}counters/models/a", b"1", 1, 1)}
    return Snapshot(revision=9, entries=MappingProxyType(entries | others))


def executor(name: str, **capacity: int) -> Member:
    return Member("executor", name, f"{name}:1", "1", capacity)


def test_wishes_are_read_with_their_age() -> None:
    """Wishes come ordered by name, with the revision that first made them."""
    assert read_wishes(snapshot(wish("q"), wish("p")).entries, PREFIX) == [wish("p"), wish("q")]


async def test_records_are_read_from_a_copy() -> None:
    """The same rules read a copy as read the store."""
    records = Records(SnapshotReader(snapshot(wish("q"), wish("p")), PREFIX))
    assert [each.pipeline for each in await records.wishes()] == ["p", "q"]
    assert await records.wish_for("r") is None


def test_only_executors_run_pipelines_that_are_not_stopped() -> None:
    """Capacity is what executors announce; the least number of replicas counts where no number is given."""
    members = [
        executor("e1", lanes=2, memory_bytes=100),
        executor("e2", lanes=2, memory_bytes=10),
        Member("router", "r1", "r:1", "1", {"lanes": 64}),
    ]
    large = DeploymentConfig(replicas_min=2, memory_bytes=50)
    placement = placement_of([wish("p", large), wish("q", stopped=True)], members)
    assert placement.assigned == {"p": ("e1",)}
    assert placement.short == {"p": "asks for 2 replicas of 50 bytes; 1 executor of 2 has room"}
