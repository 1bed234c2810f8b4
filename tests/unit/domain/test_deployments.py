"""The states of a deployment and its settings."""

import itertools

import pytest

from bettong_domain.deployments import DeploymentConfig, DeploymentState, Desired, may_follow

FORBIDDEN = {
    (DeploymentState.RUNNING, DeploymentState.RUNNING): False,
    (DeploymentState.STOPPED, DeploymentState.RUNNING): True,
    (DeploymentState.ERROR, DeploymentState.RUNNING): True,
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(DeploymentState, DeploymentState)))
def test_only_starting_leads_to_running(before: DeploymentState, after: DeploymentState) -> None:
    """Whatever serves was started; everything can stop or fail; staying is fine."""
    assert may_follow(before, after) == (not FORBIDDEN.get((before, after), False))


@pytest.mark.parametrize("state", list(DeploymentState))
def test_only_starting_ends_by_itself(state: DeploymentState) -> None:
    """A watcher can stop watching in every other state."""
    assert state.is_final == (state is not DeploymentState.STARTING)


def test_settings_without_effect_are_named() -> None:
    """A user is told what one process cannot do; labels are kept, not ignored."""
    config = DeploymentConfig(replicas=2, cpus=0.5, labels=(("team", "a"),), other=(("sidekick_cpus", "1"),))
    assert config.without_effect_here() == ["replicas", "cpus", "sidekick_cpus"]
    assert DeploymentConfig().without_effect_here() == []


@pytest.mark.parametrize(
    ("stopped", "last_good", "versions"),
    [(False, 0, (3,)), (False, 3, (3,)), (False, 2, (3, 2)), (True, 2, ()), (True, 0, ())],
)
def test_the_last_good_version_is_kept_until_the_next_serves(
    stopped: bool, last_good: int, versions: tuple[int, ...]
) -> None:
    """What serves goes on until what is asked for does; nothing runs of what is stopped."""
    desired = Desired("p", 3, DeploymentConfig(), stopped=stopped, last_good_version=last_good, updated_ms=0)
    assert desired.versions == versions
