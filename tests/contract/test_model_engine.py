"""What the control plane relies on, checked on the engine and on the fake that stands for it in other tests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import onnx
import pytest
from fakes.engine import FakeEngine
from fakes.models import identity_model, linear_model
from fakes.values import model, spec

from bettong_domain.models import BatchMode, Framework, ModelId, Signature
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program, compile_program
from bettong_kit.errors import BettongError, InvalidModelError
from bettong_serving.config import ServingConfig
from bettong_serving.ports import HostingEngine, ModelEngine, ModelLoader


@pytest.fixture(params=["fake", "real"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[ModelEngine]:
    """Start an engine of each kind."""
    if request.param == "fake":
        yield FakeEngine()
        return
    pytest.importorskip("bettong_engine", reason="the engine is not built", exc_type=ImportError)
    from bettong_serving.engine import Engine

    real = Engine(ServingConfig(data_port=0, lanes=1))
    yield real
    await real.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a model of four columns."""
    path = tmp_path / "m.onnx"
    path.write_bytes(linear_model(4))
    return path


def _program(version: int, model_id: ModelId | None = None) -> Program:
    compiled = compile_program(PipelineKey("p", version), [model("m", (spec("x", -1, 4),), (spec("y", -1, 1),))])
    assert model_id is None or compiled.model_ids == {model_id}
    return compiled


async def _load(engine: ModelLoader, path: Path, *, model_id: str = "id", mode: BatchMode | None = None) -> Signature:
    return await engine.load_model(model_id, path, Framework.ONNX, mode)


async def test_a_signature_is_read_from_the_file(engine: ModelEngine, file: Path) -> None:
    """Names, types and shapes are the file's; a free first dimension means rows."""
    expected = Signature((spec("x", -1, 4),), (spec("y", -1, 1),), BatchMode.ROWS)
    assert await _load(engine, file) == expected


async def test_a_model_without_a_free_first_dimension_is_run_whole_or_alone(
    engine: ModelEngine, tmp_path: Path
) -> None:
    """Rows of two requests cannot be joined where the file fixes their number."""
    path = tmp_path / "m.onnx"
    path.write_bytes(identity_model(("x", onnx.TensorProto.FLOAT, [3, 2]), ("y", onnx.TensorProto.FLOAT, [3, 2])))
    assert (await _load(engine, path)).batch_mode is BatchMode.WHOLE


async def test_an_id_that_is_loaded_is_answered_again(engine: ModelEngine, file: Path) -> None:
    """Loading twice is free, even when the file is gone."""
    first = await _load(engine, file)
    file.unlink()
    assert await _load(engine, file) == first


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
async def test_what_is_not_a_model_is_refused(engine: ModelEngine, file: Path, damage: str) -> None:
    """The reason is the caller's to read; nothing is loaded."""
    whole = file.read_bytes()
    file.write_bytes({"empty": b"", "text": b"not a model", "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(InvalidModelError):
        await _load(engine, file)
    file.write_bytes(whole)
    assert (await _load(engine, file)).inputs == (spec("x", -1, 4),)


async def test_a_program_of_a_loaded_model_is_served(engine: ModelEngine, file: Path) -> None:
    """Versions replace each other; stopping what is not served is fine."""
    (model_id,) = _program(1).model_ids
    await _load(engine, file, model_id=model_id)
    await engine.route(unavailable=[("p", "starting")])
    await engine.route(serve=[_program(1, model_id)])
    await engine.route(serve=[_program(2, model_id)])
    await engine.route(stop=["p", "never"])


async def test_a_program_of_a_missing_model_is_refused(engine: ModelEngine) -> None:
    """What served before is not harmed by a program that cannot run."""
    with pytest.raises(BettongError):
        await engine.route(serve=[_program(1)])


async def test_an_unloaded_model_is_missing(engine: ModelEngine, file: Path) -> None:
    """Programs keep what they use; new programs need a new load."""
    (model_id,) = _program(1).model_ids
    await _load(engine, file, model_id=model_id)
    await engine.route(serve=[_program(1)])
    engine.unload_model(model_id)
    await engine.route(stop=["p"])
    with pytest.raises(BettongError):
        await engine.route(serve=[_program(2)])


async def test_versions_are_hosted_beside_each_other(engine: HostingEngine, file: Path) -> None:
    """Other processes name the version; stopping what is not hosted is fine."""
    (model_id,) = _program(1).model_ids
    await _load(engine, file, model_id=model_id)
    await engine.host(serve=[_program(1), _program(2)])
    await engine.host(serve=[_program(2)], stop=[PipelineKey("p", 1)])
    await engine.host(stop=[PipelineKey("p", 1), PipelineKey("never", 7)])


async def test_a_program_of_a_missing_model_is_not_hosted(engine: HostingEngine) -> None:
    """The change is refused as a whole."""
    with pytest.raises(BettongError):
        await engine.host(serve=[_program(1)])


async def test_changes_at_once_are_all_taken(engine: ModelEngine, file: Path) -> None:
    """Updates are put in order by the engine's owner, not by luck."""
    (model_id,) = _program(1).model_ids
    await _load(engine, file, model_id=model_id)
    async with asyncio.TaskGroup() as tasks:
        for version in range(1, 9):
            tasks.create_task(engine.route(serve=[_program(version)]))


async def test_the_runtime_is_named(engine: ModelEngine) -> None:
    """The version is that of the installed wheel."""
    assert engine.runtimes()["onnxruntime"].startswith("1.")
