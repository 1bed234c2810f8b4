"""Which version serves, in which state a deployment is, and what is said about it."""

import dataclasses

import pytest

from bettong_domain.deployments import DeploymentConfig, DeploymentState, Desired, Replica, ReplicaState
from bettong_domain.hosts import ANSWERING, Host, Running
from bettong_domain.pipelines import PipelineKey
from bettong_domain.served import Situation, decide, held_versions

RUNNING, STARTING, ERROR = DeploymentState.RUNNING, DeploymentState.STARTING, DeploymentState.ERROR
STATES = {
    "r": ReplicaState.READY,
    "l": ReplicaState.LOADING,
    "f": ReplicaState.FAILED,
    "x": ReplicaState.LEAVING,
}


def wish(version: int = 2, last_good: int = 0, *, stopped: bool = False) -> Desired:
    return Desired("p", version, DeploymentConfig(), stopped=stopped, last_good_version=last_good, updated_ms=0)


def situation(serving: int = 0, **executors: str) -> Situation:
    """Make executors from words such as "1r 2l": version 1 is ready, version 2 is being loaded."""
    hosts = {
        name: Host(
            "executor",
            name,
            f"{name}:1",
            name,
            1,
            running={
                PipelineKey("p", int(word[0])): Running(STATES[word[1]], "damaged" if word[1] == "f" else "")
                for word in words.split()
            },
        )
        for name, words in executors.items()
    }
    answered = {key for host in hosts.values() for key, how in host.running.items() if how.state in ANSWERING}
    held = held_versions(hosts.values()).get("p", ())
    return Situation(hosts, sorted(hosts), answered=answered, serving=serving, held=held)


@pytest.mark.parametrize(
    ("desired", "there", "version", "state", "reason"),
    [
        # The first version.
        (wish(), situation(a="2r", b="2r"), 2, RUNNING, ""),
        (wish(), situation(a="2r", b="2l"), 0, STARTING, "b is loading it"),
        (wish(), situation(a="2r", b=""), 0, STARTING, "b has not begun to load it"),
        (wish(), situation(a="2r", b="2f"), 2, RUNNING, "b: damaged"),
        (wish(), situation(a="2f", b="2f"), 0, ERROR, "a: damaged; b: damaged"),
        (wish(), situation(a="2f", b="2l"), 0, STARTING, "a: damaged; b is loading it"),
        (wish(), situation(a="2x"), 0, STARTING, ""),
        # Another one served before.
        (wish(last_good=1), situation(1, a="1r 2r", b="1r 2l"), 1, STARTING, "b is loading it"),
        (wish(last_good=1), situation(1, a="1r 2r", b="1r 2r"), 2, RUNNING, ""),
        (wish(last_good=1), situation(1, a="1r 2f", b="1x 2f"), 1, ERROR, "a: damaged; b: damaged"),
        (wish(last_good=1), situation(0, a="1r 2l"), 1, STARTING, "a is loading it"),
        (wish(last_good=1), situation(1, a="2r", b="2l"), 2, RUNNING, "b is loading it"),
        # It has served already, and replicas come and go.
        (wish(last_good=2), situation(2, a="2r", b="2l"), 2, RUNNING, "b is loading it"),
        (wish(last_good=2), situation(0, a="2x", b="2l"), 2, RUNNING, "b is loading it"),
        (wish(last_good=2), situation(2, a="2l"), 0, STARTING, "a is loading it"),
        (wish(last_good=2), situation(1, a="1x 2l"), 1, STARTING, "a is loading it"),
        # Back to an older one.
        (wish(1, last_good=2), situation(2, a="1l 2r"), 2, STARTING, "a is loading it"),
        (wish(1, last_good=2), situation(2, a="1r 2r"), 1, RUNNING, ""),
        # Nobody is there.
        (wish(), situation(), 0, ERROR, "no executor runs it"),
        (wish(stopped=True), situation(2, a="2x"), 0, DeploymentState.STOPPED, ""),
    ],
)
def test_what_serves(desired: Desired, there: Situation, version: int, state: DeploymentState, reason: str) -> None:
    """The version asked for once it is ready and nobody is still loading it; before that, what served last."""
    served = decide(desired, there)
    assert (served.version, served.state, served.reason) == (version, state, reason)


def test_what_fits_nowhere_says_what_is_short() -> None:
    """The reason of an error, or of fewer replicas than asked for."""
    short = "asks for 3 replicas; 1 executor of 1 has room"
    assert decide(wish(), dataclasses.replace(situation(), short=short)).reason == short
    served = decide(wish(), dataclasses.replace(situation(a="2r"), short=short))
    assert (served.version, served.state, served.reason) == (2, RUNNING, short)


def test_a_failure_from_before_the_wish_does_not_count() -> None:
    """Who asks again for what failed is not told of the old failure: it is tried anew."""
    again = dataclasses.replace(wish(), revision=9)
    served = decide(again, situation(a="2f"))
    assert (served.state, served.reason) == (STARTING, "a has not begun to load it")
    executors = {"a": dataclasses.replace(situation(a="2f").executors["a"], acted_on=9)}
    assert decide(again, dataclasses.replace(situation(a="2f"), executors=executors)).state is ERROR


def test_a_version_waits_for_the_routers() -> None:
    """A gateway does not send what a router does not know yet; what serves already goes on when a router joins."""
    unrouted = {PipelineKey("p", 2): "router/r1"}
    served = decide(wish(last_good=1), dataclasses.replace(situation(1, a="1r 2r"), unrouted=unrouted))
    assert (served.version, served.state, served.reason) == (1, STARTING, "router/r1 does not know it yet")
    served = decide(wish(last_good=2), dataclasses.replace(situation(2, a="2r"), unrouted=unrouted))
    assert (served.version, served.state) == (2, RUNNING)


def test_replicas_tell_what_is_where() -> None:
    """All wanted versions on those that shall run them, and what others still have."""
    there = dataclasses.replace(situation(1, a="1r 2l", b="1x"), assigned=["a"])
    assert decide(wish(last_good=1), there).replicas == (
        Replica("a", 1, ReplicaState.READY),
        Replica("b", 1, ReplicaState.LEAVING),
        Replica("a", 2, ReplicaState.LOADING),
    )
    assert decide(wish(), dataclasses.replace(situation(), assigned=["c"])).replicas == (
        Replica("c", 2, ReplicaState.WAITING),
    )
