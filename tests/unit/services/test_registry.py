"""What is kept of models, pipelines and wishes, with somebody else changing it at the same time."""

from dataclasses import replace

import pytest
from fakes.clock import ManualClock
from fakes.sight import FakeSight

from bettong.v1 import models_pb2
from bettong_catalog.records import model_key, read_model
from bettong_catalog.registry import Registry
from bettong_catalog.store import Entry
from bettong_domain.deployments import DeploymentConfig
from bettong_domain.models import BatchMode, Framework, Model, ModelConfig, ModelKey, Signature, TensorSpec
from bettong_domain.pipelines import Pipeline, PipelineKey, Step
from bettong_kit.errors import CorruptDataError

X = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 1)),), BatchMode.ROWS)
MODEL = Model(ModelKey("m", 0), "a" * 64, 1, Framework.ONNX, X, ModelConfig(), "", 0, "")


class SharedStore(FakeSight):
    """The store of two gateways, one of which may do something while the other is between reading and writing."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[tuple[Registry, PipelineKey]] = []

    async def list(self, prefix: str) -> list[Entry]:
        """Read, then let the other one delete."""
        found = await super().list(prefix)
        if prefix == "pipelines/p/" and self.meanwhile:
            other, key = self.meanwhile.pop()
            await other.delete_pipelines(key)
        return found


async def test_the_last_versions_deleted_at_two_gateways_leave_no_wish() -> None:
    """Each saw the other's version, which was gone when it wrote."""
    store = SharedStore()
    here, there = (Registry(store, ManualClock()) for _ in range(2))
    model = await here.add_model(MODEL)
    for mode in ("one", "two"):
        pipeline = Pipeline(PipelineKey("p", 0), (Step(model.key, ModelConfig(tensor_fields=(mode,))),), X, 0)
        await here.add_pipeline(pipeline)
    await here.wish(PipelineKey("p", 2), DeploymentConfig())
    await here.change_wish("p", lambda wish: replace(wish, stopped=True))
    store.meanwhile = [(there, PipelineKey("p", 2))]
    await here.delete_pipelines(PipelineKey("p", 1))
    assert await here.pipelines() == []
    assert await here.wishes() == []


@pytest.mark.parametrize("value", [b"\xff", models_pb2.Model(framework=99).SerializeToString()])  # type: ignore[arg-type]
def test_what_a_newer_version_wrote_is_named(value: bytes) -> None:
    """Whether it is no message or one that this version does not understand; whoever reads many goes on with the next."""
    with pytest.raises(
        CorruptDataError, match="models/m/0000000003 cannot be read; something else, or a newer version"
    ):
        read_model(Entry(model_key(ModelKey("m", 3)), value, 1))
