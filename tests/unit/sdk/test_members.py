"""Members and replicas as users see them."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from bettong._deployments import deployment_from_pb, status_of
from bettong._members import members
from bettong.v1 import deployments_pb2, server_pb2


def connection(reply: server_pb2.ListMembersResponse) -> Any:
    return SimpleNamespace(ask=lambda _method, _request: reply)


def test_members_say_who_they_are_and_how_they_do() -> None:
    """What is not known is None or empty; a member that gets nothing says why."""
    fine = server_pb2.Member(role="executor", name="e1", address="h:1", lanes=2, programs_ready=3)
    failed = server_pb2.Member(role="executor", name="e2", memory_bytes=5, ejected=True, last_error="gone")
    found = members(connection(server_pb2.ListMembersResponse(cluster="c", members=[fine, failed])))
    assert (found.cluster, found.etcd_lost_since) == ("c", None)
    first, second = found.members
    assert (first.name, first.ready, first.memory_bytes, first.error) == ("e1", 3, None, "")
    assert (second.memory_bytes, second.error) == (5, "gone")


def test_members_say_since_when_etcd_is_away() -> None:
    """A user sees that what is listed may be old."""
    lost = server_pb2.Coordination(lost_since_ms=1_500, lost_reason="no answer")
    found = members(connection(server_pb2.ListMembersResponse(coordination=lost)))
    assert found.etcd_lost_since == dt.datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=dt.UTC)
    assert found.etcd_lost_reason == "no answer"


@pytest.mark.parametrize(
    ("state", "word", "engine"),
    [
        (deployments_pb2.REPLICA_STATE_WAITING, "Waiting", "Starting"),
        (deployments_pb2.REPLICA_STATE_READY, "Ready", "Running"),
        (deployments_pb2.REPLICA_STATE_FAILED, "Failed", "Error"),
        (99, "Unknown", "Starting"),
    ],
)
def test_replicas_are_shown_as_engines(state: int, word: str, engine: str) -> None:
    """Each replica is an engine of the status that notebooks read; a state that this version does not know is no error."""
    replica = deployments_pb2.Replica(member="e1", version=2, state=state, reason="why")  # type: ignore[arg-type]
    message = deployments_pb2.Deployment(pipeline="p", version=2, replicas=[replica])
    assert [(found.member, found.version, found.state) for found in deployment_from_pb(message).replicas] == [
        ("e1", 2, word)
    ]
    (shown,) = status_of(message)["engines"]
    assert (shown["name"], shown["status"], shown["reason"]) == ("e1", engine, "why")
