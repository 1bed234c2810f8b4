"""Pipelines through the SDK, against a real server."""

import asyncio
import datetime as dt
from collections.abc import Callable

import pytest
from fakes.models import linear_model

import bettong

ROWS = [{"tensor": [1.0, 2.0, 3.0, 4.0]}]

Deploy = Callable[..., bettong.Pipeline]


def answer(pipeline: bettong.Pipeline) -> object:
    """Return what a row of 1 to 4 gives."""
    return pipeline.infer(ROWS)[0]["out.y"]


def test_notebook_cell_can_be_run_again(client: bettong.Client, name: str) -> None:
    """The same cell twice makes no second step, and no new version when nothing changed."""
    model = client.upload_model(name, linear_model(4)).configure(tensor_fields=["tensor"])
    for _ in range(3):
        pipeline = client.build_pipeline(name).add_model_step(model).deploy()
        assert pipeline.steps() == [bettong.ModelStep(name, 1)]
    assert [version.version() for version in pipeline.versions()] == [1]
    assert answer(pipeline) == [10.0]


def test_steps_are_edited(client: bettong.Client, name: str) -> None:
    """Steps can be added, replaced, removed and cleared; what is frozen stays."""
    one, two = (client.upload_model(name, linear_model(4, weight=weight)) for weight in (1.0, 2.0))
    pipeline = client.build_pipeline(name).add_model_step(one)
    frozen = pipeline.create_version()
    pipeline.add_model_step(one).replace_with_model_step(0, two).remove_step(1)
    assert pipeline.steps() == [bettong.ModelStep(name, 2)]
    assert frozen.steps() == [bettong.ModelStep(name, 1)]
    assert pipeline.clear().steps() == []
    with pytest.raises(bettong.InvalidInputError, match="no step 0"):
        pipeline.remove_step(0)
    with pytest.raises(bettong.InvalidInputError, match="model version"):
        pipeline.add_model_step(name)  # type: ignore[arg-type]


def test_pipeline_without_steps_is_not_deployed(client: bettong.Client, name: str) -> None:
    """The error says what to do."""
    with pytest.raises(bettong.InvalidInputError, match="add_model_step"):
        client.build_pipeline(name).deploy()


def test_hot_swap_and_roll_back(client: bettong.Client, name: str, deployed: Deploy) -> None:
    """A new model is swapped in without undeploying, and an older version can be brought back."""
    pipeline = deployed()
    assert answer(pipeline) == [10.0]
    model = client.upload_model(name, linear_model(4, weight=2.0)).configure(tensor_fields=["tensor"])
    pipeline.replace_with_model_step(0, model).deploy()
    assert answer(pipeline) == [20.0]
    client.get_pipeline(name, 1).deploy()
    assert answer(pipeline) == [10.0]
    deployment = next(found for found in client.list_deployments() if found.pipeline == name)
    assert (deployment.version, deployment.serving_version, deployment.state) == (1, 1, "Running")


def test_steps_pass_columns_on(client: bettong.Client, name: str) -> None:
    """The output of a step is the input of the next by name."""
    first = client.upload_model(f"{name}-a", linear_model(4, name_out="sum")).configure(tensor_fields=["tensor"])
    second = client.upload_model(f"{name}-b", linear_model(1, name_in="sum", name_out="y", weight=3.0))
    pipeline = client.build_pipeline(name).add_model_step(first).add_model_step(second).deploy()
    assert answer(pipeline) == [30.0]
    assert str(pipeline.versions()[0].signature) == "(x: FP32[?,4]) → (y: FP32[?,1])"


def test_steps_that_do_not_fit_are_refused(client: bettong.Client, name: str) -> None:
    """The server names the column that the second step lacks."""
    one = client.upload_model(f"{name}-a", linear_model(4))
    two = client.upload_model(f"{name}-b", linear_model(4, name_in="other"))
    with pytest.raises(bettong.InvalidInputError, match="other"):
        client.build_pipeline(name).add_model_step(one).add_model_step(two).deploy()


def test_one_model_pipeline_in_one_call(client: bettong.Client, name: str) -> None:
    """`model.deploy` is short for a pipeline of this step."""
    pipeline = client.upload_model(name, linear_model(4)).deploy(name)
    assert answer(pipeline) == [10.0]


def test_status_follows_the_pipeline(client: bettong.Client, name: str, deployed: Deploy) -> None:
    """The word says where it stands, and the models are listed under the engine."""
    assert client.build_pipeline(name).status()["status"] == "Stopped"
    pipeline = deployed()
    status = pipeline.status()
    assert status["status"] == "Running"
    models = status["engines"][0]["model_statuses"]["models"]
    assert [(model["name"], model["version"], model["status"]) for model in models] == [(name, 1, "Running")]
    assert pipeline.undeploy().status()["status"] == "Stopped"


def test_undeployed_pipeline_does_not_answer(deployed: Deploy) -> None:
    """After `undeploy` a request is refused, not left hanging."""
    pipeline = deployed().undeploy()
    with pytest.raises((bettong.NotFoundError, bettong.NotReadyError)):
        pipeline.infer(ROWS, timeout=2)


def test_a_pipeline_that_does_not_answer_is_explained(client: bettong.Client, name: str, deployed: Deploy) -> None:
    """One that is stopped can be deployed; one that never was is misspelled, on each way of asking."""
    stopped, unknown = deployed().undeploy(), client.build_pipeline(f"{name}x")
    for pipeline, message in (
        (stopped, f"'{name}' is not deployed; .* `bettong pipeline deploy {name}`"),
        (unknown, f"there is no pipeline '{name}x'; did you mean '{name}'"),
    ):
        with pytest.raises(bettong.NotFoundError, match=message):
            pipeline.infer(ROWS)
        with pytest.raises(bettong.NotFoundError, match=message):
            asyncio.run(pipeline.async_infer(ROWS))
        with pytest.raises(bettong.NotFoundError, match=message):
            asyncio.run(pipeline.parallel_infer(ROWS))


def test_deploying_without_waiting_returns_at_once(client: bettong.Client, name: str) -> None:
    """Without waiting, the wish is left with the server; deploying again waits for it."""
    model = client.upload_model(name, linear_model(4)).configure(tensor_fields=["tensor"])
    pipeline = client.build_pipeline(name).add_model_step(model).deploy(wait_for_status=False)
    assert answer(pipeline.deploy()) == [10.0]


def test_settings_without_effect_are_reported_once(client: bettong.Client, name: str) -> None:
    """A deployment config is accepted; what one process cannot do is said once, not for each deployment."""
    model = client.upload_model(name, linear_model(4))
    pipeline = client.build_pipeline(name).add_model_step(model)
    config = bettong.DeploymentConfigBuilder().gpus(1).build()
    with pytest.warns(bettong.IgnoredSettingWarning, match="gpus"):
        pipeline.deploy(config)
    pipeline.deploy(config)


def test_things_describe_themselves(client: bettong.Client, name: str, deployed: Deploy) -> None:
    """What a notebook prints names what it is; equal versions are equal and can be put into sets."""
    pipeline = deployed()
    model, (version,) = client.get_model(name), pipeline.versions()
    assert repr(client) == f"Client('{client.url()}')"
    assert repr(pipeline) == f"Pipeline(name='{name}', steps=[ModelStep(name='{name}', version=1)])"
    assert f"name='{name}', version=1, framework=ONNX" in repr(model)
    assert repr(client.list_models()[0]).startswith("Model(name=")
    assert f"name='{name}', version=1" in repr(version)
    assert repr(pipeline.local()) == f"LocalPipeline(name='{name}', version=1)"
    assert "runtime='onnx', tensor_fields=['tensor']" in repr(model.config())
    assert len({model, client.get_model(name)}) == len({version, *pipeline.versions()}) == 1
    assert version.created <= dt.datetime.now(dt.UTC)


def test_lists_and_deletion(client: bettong.Client, name: str, deployed: Deploy) -> None:
    """A pipeline is listed until it is deleted, which needs it undeployed."""
    pipeline = deployed()
    assert name in {found.name() for found in client.list_pipelines()}
    with pytest.raises(bettong.ConflictError):
        pipeline.delete()
    pipeline.undeploy().delete()
    with pytest.raises(bettong.NotFoundError):
        client.get_pipeline(name)


def test_api_spec_has_the_inputs(deployed: Deploy, name: str) -> None:
    """The description of a pipeline names its route and its inputs."""
    spec = deployed().generate_api_spec()
    operation = spec["paths"][f"/v1/pipelines/{name}/infer"]["post"]
    properties = operation["requestBody"]["content"]["application/json"]["schema"]["items"]["properties"]
    assert properties["x"]["maxItems"] == 4


def test_one_process_is_its_only_member(client: bettong.Client, deployed: Deploy) -> None:
    """Without a cluster there is one member, with what it serves, and nothing that could be away."""
    deployed()
    found = client.members()
    (member,) = found.members
    assert (found.cluster, found.etcd_lost_since) == ("", None)
    assert (member.role, member.draining, member.error) == ("server", False, "")
    assert member.address == client.url().removeprefix("http://")
    assert member.ready >= 1
