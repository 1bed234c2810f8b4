"""From wishes to what the engine serves."""

import pytest
from fakes.models import linear_model
from integration.control_plane.conftest import OpenPlane, Plane

from bettong_domain.deployments import DeploymentConfig, DeploymentState
from bettong_domain.models import ModelConfig, ModelKey
from bettong_domain.pipelines import PipelineKey
from bettong_gateway import repository
from bettong_kit.errors import BettongError, IncompatibleStepsError, InUseError, NotFoundError, UnavailableError

STARTING, RUNNING = DeploymentState.STARTING, DeploymentState.RUNNING
ERROR, STOPPED = DeploymentState.ERROR, DeploymentState.STOPPED


async def test_a_deployed_pipeline_serves(plane: Plane) -> None:
    """The caller sees it start and run; the engine has its model and its program."""
    model = await plane.upload("m")
    key = await plane.pipeline("p", model)
    states = await plane.deploy(key)
    last = states[-1]
    assert [last.state, last.serving_version, last.reason] == [RUNNING, 1, ""]
    assert [(status.key, status.state) for status in last.models] == [(model.key, RUNNING)]
    assert plane.engine.served["p"].key == key
    assert set(plane.engine.loaded) == {f"{model.sha256}:rows"}


async def test_the_same_chain_again_is_the_same_version(plane: Plane) -> None:
    """A notebook cell may be run twice; changed settings make a new version."""
    model = await plane.upload("m")
    assert await plane.pipeline("p", model) == await plane.pipeline("p", model) == PipelineKey("p", 1)
    await plane.app.models.configure(model.key, ModelConfig(tensor_fields=("t",)))
    assert await plane.pipeline("p", model) == PipelineKey("p", 2)


async def test_deploying_what_serves_already_changes_nothing(plane: Plane) -> None:
    """The answer is there at once; other settings, or a pipeline that was stopped, are a new wish."""
    key = await plane.pipeline("p", await plane.upload("m"))
    before = (await plane.deploy(key))[-1]
    plane.engine.refuse["p"] = BettongError("routed again")
    assert await plane.deploy(PipelineKey("p", 0)) == [before]
    labelled = DeploymentConfig(labels=(("team", "a"),))
    async with plane.reconciling():
        states = [state.state async for state in plane.app.deployments.deploy(key, labelled)]
    assert states[-1] is ERROR
    del plane.engine.refuse["p"]
    assert (await plane.deploy(key))[-1].state is RUNNING
    await plane.undeploy("p")
    assert (await plane.deploy(key))[-1].state is RUNNING


async def test_a_pipeline_keeps_the_settings_that_it_was_made_with(plane: Plane) -> None:
    """Configuring a model later changes nothing that is frozen."""
    model = await plane.upload("m", config=ModelConfig(tensor_fields=("before",)))
    key = await plane.pipeline("p", model)
    await plane.app.models.configure(model.key, ModelConfig(tensor_fields=("after",)))
    program, _ = await plane.app.pipelines.program(key)
    assert program.inputs[0].aliases == ("before",)


async def test_a_new_version_replaces_the_old_and_frees_its_model(plane: Plane) -> None:
    """Hot swap: one route change, and memory is given back."""
    await plane.deploy(await plane.pipeline("p", await plane.upload("m")))
    second = await plane.upload("m", linear_model(4, weight=2.0))
    states = await plane.deploy(await plane.pipeline("p", second))
    assert {state.serving_version for state in states if state.state is STARTING} <= {1}
    assert (states[-1].state, states[-1].serving_version) == (RUNNING, 2)
    assert set(plane.engine.loaded) == {f"{second.sha256}:rows"}


async def test_going_back_is_deploying_an_older_version(plane: Plane) -> None:
    """Roll back needs no special call."""
    first = await plane.pipeline("p", await plane.upload("m"))
    await plane.deploy(await plane.pipeline("p", await plane.upload("m")))
    assert (await plane.deploy(first))[-1].serving_version == 1


async def test_a_model_shared_by_pipelines_is_loaded_once_and_kept(plane: Plane) -> None:
    """It goes with its last user."""
    model = await plane.upload("m")
    loads = plane.engine.loads
    await plane.deploy(await plane.pipeline("p", model))
    await plane.deploy(await plane.pipeline("q", model))
    assert plane.engine.loads == loads + 1
    await plane.undeploy("p")
    assert len(plane.engine.loaded) == 1
    await plane.undeploy("q")
    assert plane.engine.loaded == {}


async def test_a_failed_deploy_leaves_the_old_version_serving(plane: Plane) -> None:
    """The wish is kept with its reason; what served goes on; nothing stays loaded for nothing."""
    first = await plane.upload("m")
    await plane.deploy(await plane.pipeline("p", first))
    plane.engine.refuse["p"] = BettongError("no lane for it")
    states = await plane.deploy(await plane.pipeline("p", await plane.upload("m", linear_model(4, weight=2.0))))
    assert (states[-1].state, states[-1].reason, states[-1].serving_version) == (ERROR, "no lane for it", 1)
    assert plane.engine.served["p"].key.version == 1
    assert set(plane.engine.loaded) == {f"{first.sha256}:rows"}
    assert plane.engine.unavailable == {}


async def test_a_first_deploy_that_fails_says_why_to_clients(plane: Plane) -> None:
    """Requests for it are told the reason instead of "not found"."""
    plane.engine.refuse["p"] = BettongError("no lane for it")
    await plane.deploy(await plane.pipeline("p", await plane.upload("m")))
    assert plane.engine.unavailable == {"p": "no lane for it"}


async def test_a_broken_engine_call_fails_one_deployment_only(plane: Plane) -> None:
    """An error that nobody foresaw is hidden behind an id; other deployments go on."""
    plane.engine.refuse["p"] = ZeroDivisionError("secret")  # type: ignore[assignment]
    model = await plane.upload("m")
    broken = await plane.deploy(await plane.pipeline("p", model))
    fine = await plane.deploy(await plane.pipeline("q", model))
    assert broken[-1].reason.startswith("internal error ")
    assert "secret" not in broken[-1].reason
    assert fine[-1].state is RUNNING


async def test_undeploying_stops_and_remembers(plane: Plane) -> None:
    """The record stays, so that it can be asked for; a second time is fine."""
    await plane.deploy(await plane.pipeline("p", await plane.upload("m")))
    stopped = await plane.undeploy("p")
    assert (stopped.state, stopped.serving_version) == (STOPPED, 0)
    assert (plane.engine.served, plane.engine.loaded) == ({}, {})
    assert (await plane.undeploy("p")).state is STOPPED
    assert (await plane.app.deployments.get("p")).state is STOPPED


async def test_what_was_never_deployed_is_not_found(plane: Plane) -> None:
    """Neither stopping nor asking makes a record."""
    await plane.pipeline("p", await plane.upload("m"))
    with pytest.raises(NotFoundError):
        await plane.app.deployments.get("p")
    with pytest.raises(NotFoundError):
        await plane.undeploy("p")
    with pytest.raises(NotFoundError):
        await plane.deploy(PipelineKey("p", 2))


async def test_a_deployed_pipeline_cannot_be_deleted(plane: Plane) -> None:
    """Only after it is stopped; then its record goes too and its number is not used again."""
    model = await plane.upload("m")
    await plane.deploy(await plane.pipeline("p", model))
    with pytest.raises(InUseError, match="p version 1 is deployed"):
        await plane.app.pipelines.delete(PipelineKey("p", 0))
    await plane.undeploy("p")
    assert await plane.app.pipelines.delete(PipelineKey("p", 0)) == [1]
    assert await plane.app.deployments.list_deployments() == []
    assert await plane.pipeline("p", model) == PipelineKey("p", 2)


async def test_an_older_version_can_be_deleted_while_a_newer_serves(plane: Plane) -> None:
    """Only what serves, or may be brought back, is held."""
    await plane.pipeline("p", await plane.upload("m"))
    await plane.deploy(await plane.pipeline("p", await plane.upload("m")))
    assert await plane.app.pipelines.delete(PipelineKey("p", 1)) == [1]
    assert [pipeline.key.version for pipeline in await plane.app.pipelines.list_pipelines("p")] == [2]


async def test_a_caller_that_leaves_does_not_take_the_wish_along(plane: Plane) -> None:
    """The deployment is made without a watcher."""
    key = await plane.pipeline("p", await plane.upload("m"))
    states = aiter(plane.app.deployments.deploy(key, DeploymentConfig()))
    async with plane.reconciling():
        first = await anext(states)
        await states.aclose()  # type: ignore[attr-defined] # it is a generator
        revision = first.desired.revision
        later = [state async for state in plane.app.deployments._progress.watch("p", revision)]
    assert (first.state, later[-1].state) == (STARTING, RUNNING)
    assert plane.engine.served["p"].key == key


async def test_settings_are_kept_and_those_without_effect_named(plane: Plane) -> None:
    """A deployment can be read back as it was asked for."""
    key = await plane.pipeline("p", await plane.upload("m"))
    config = DeploymentConfig(replicas=3, labels=(("team", "a"),))
    async with plane.reconciling():
        states = [state async for state in plane.app.deployments.deploy(key, config)]
    assert states[-1].desired.config == config
    assert states[-1].desired.config.without_effect_here() == ["replicas"]


async def test_a_restart_brings_back_every_deployment(open_plane: OpenPlane) -> None:
    """Running ones run, stopped ones stay stopped, and nothing is asked of the user."""
    async with open_plane() as plane:
        model = await plane.upload("m")
        for name in ("a", "b", "c"):
            await plane.deploy(await plane.pipeline(name, model))
        await plane.undeploy("b")
    async with open_plane() as plane:
        await plane.app.reconciler.restore()
        states = {found.desired.pipeline: found.state for found in await plane.app.deployments.list_deployments()}
        assert states == {"a": RUNNING, "b": STOPPED, "c": RUNNING}
        assert set(plane.engine.served) == {"a", "c"}


async def test_a_restart_brings_back_the_last_good_version(open_plane: OpenPlane) -> None:
    """A wish that failed before the restart does not take down what served."""
    async with open_plane() as plane:
        await plane.deploy(await plane.pipeline("p", await plane.upload("m")))
        plane.engine.refuse["p"] = BettongError("bad")
        await plane.deploy(await plane.pipeline("p", await plane.upload("m", linear_model(5))))
    async with open_plane() as plane:
        damaged = await plane.app.models.path(ModelKey("m", 2))
        damaged.write_bytes(b"not what was written")
        await plane.app.reconciler.restore()
        found = await plane.app.deployments.get("p")
        assert (found.state, found.serving_version) == (ERROR, 1)
        assert "not a model" in found.reason
        assert plane.engine.served["p"].key.version == 1


async def test_a_restart_without_a_file_says_so(open_plane: OpenPlane) -> None:
    """One damaged deployment does not keep the others down."""
    async with open_plane() as plane:
        lost, kept = await plane.upload("lost"), await plane.upload("kept", linear_model(5))
        await plane.deploy(await plane.pipeline("p", lost))
        await plane.deploy(await plane.pipeline("q", kept))
        (plane.folder / "models" / lost.sha256).unlink()
    async with open_plane() as plane:
        await plane.app.reconciler.restore()
        assert set(plane.engine.served) == {"q"}
        assert "no stored file" in plane.engine.unavailable["p"]


async def test_steps_that_do_not_fit_are_refused_when_the_pipeline_is_made(plane: Plane) -> None:
    """No version is made."""
    first, second = await plane.upload("a", linear_model(4)), await plane.upload("b", linear_model(7, name_in="z"))
    with pytest.raises(IncompatibleStepsError, match="step 2"):
        await plane.pipeline("p", first, second)
    assert await plane.app.pipelines.list_pipelines() == []


async def test_loading_by_name_deploys_the_newest_version(plane: Plane) -> None:
    """The repository calls of other people's clients drive the same deployments."""
    await plane.pipeline("p", await plane.upload("m"))
    await plane.pipeline("p", await plane.upload("m"))
    async with plane.reconciling():
        assert await repository.answer(plane.app, "load", "p") == b""
    assert plane.engine.served["p"].key.version == 2
    async with plane.reconciling():
        assert await repository.answer(plane.app, "unload", "p") == b""
    assert plane.engine.served == {}


async def test_loading_a_model_makes_a_pipeline_of_it(plane: Plane) -> None:
    """A client that knows models only gets one that serves."""
    await plane.upload("m")
    async with plane.reconciling():
        await repository.answer(plane.app, "load", "m")
    assert plane.engine.served["m"].key == PipelineKey("m", 1)


async def test_loading_what_cannot_be_loaded_says_why(plane: Plane) -> None:
    """Unknown names are not found; failures carry their reason; unknown calls are refused."""
    with pytest.raises(NotFoundError, match="no pipeline and no model 'x'"):
        await repository.answer(plane.app, "load", "x")
    await plane.upload("m")
    plane.engine.refuse["m"] = BettongError("no lane for it")
    async with plane.reconciling():
        with pytest.raises(UnavailableError, match="'m' cannot be loaded: no lane for it"):
            await repository.answer(plane.app, "load", "m")
    with pytest.raises(BettongError, match="'explode' is unknown"):
        await repository.answer(plane.app, "explode", "")


async def test_the_index_lists_whatever_could_be_asked_for(plane: Plane) -> None:
    """Deployed, stopped, failed, only built and only uploaded are told apart."""
    model = await plane.upload("bare")
    for name in ("built", "failed", "running", "stopped"):
        await plane.pipeline(name, model)
    plane.engine.refuse["failed"] = BettongError("no lane for it")
    for name in ("failed", "running", "stopped"):
        await plane.deploy(PipelineKey(name, 0))
    await plane.undeploy("stopped")
    entries = (await repository.index(plane.app)).entries
    assert [(entry.name, entry.version, entry.state, entry.reason) for entry in entries] == [
        ("bare", 0, "UNAVAILABLE", "not loaded"),
        ("built", 1, "UNAVAILABLE", "not deployed"),
        ("failed", 1, "UNAVAILABLE", "no lane for it"),
        ("running", 1, "READY", ""),
        ("stopped", 1, "UNAVAILABLE", "not deployed"),
    ]
