"""Settings of models, before they reach the server."""

import pyarrow as pa
import pytest

import bettong
from bettong._model_settings import (
    batching_to_pb,
    check_output_schema,
    check_runtime,
    config_from_pb,
    fields_of_schema,
    framework_of,
)
from bettong.v1 import models_pb2

SIGNATURE = bettong.Signature(
    inputs=(bettong.TensorSpec("x", "FP32", (-1, 4)),), outputs=(bettong.TensorSpec("y", "FP32", (-1, 1)),)
)


def test_signature_reads_as_a_sentence() -> None:
    """A signature prints as inputs and outputs with their types."""
    assert str(SIGNATURE) == "(x: FP32[?,4]) → (y: FP32[?,1])"


@pytest.mark.parametrize("given", [None, "onnx", "ONNX", bettong.Framework.ONNX])
def test_framework_is_told_or_found(given: bettong.Framework | str | None) -> None:
    """The suffix tells when the caller does not."""
    assert framework_of(given, "Model.ONNX") is bettong.Framework.ONNX


@pytest.mark.parametrize(("given", "file"), [(None, "model.bin"), ("tensorrt", "model.onnx")])
def test_unknown_framework_is_refused(given: str | None, file: str) -> None:
    """The message says what is served and how a model becomes that."""
    with pytest.raises(bettong.InvalidInputError, match="only ONNX is served; convert models with tf2onnx .* skl2onnx"):
        framework_of(given, file)


def test_batching_settings_survive() -> None:
    """What is configured is what `config()` says."""
    message = models_pb2.ModelConfig(tensor_fields=["a"])
    batching_to_pb(message, None, bettong.DynamicBatchingConfig(max_batch_delay_ms=2.5, batch_size_target=8))
    config = config_from_pb(bettong.Framework.ONNX, message)
    assert config.dynamic_batching_config() == bettong.DynamicBatchingConfig(2.5, 8)
    assert config.tensor_fields() == ["a"]
    assert config.runtime() == "onnx"
    assert config.batch_config() is None


def test_single_row_batches() -> None:
    """`batch_config="single"` is kept as such."""
    message = models_pb2.ModelConfig()
    batching_to_pb(message, "single", None)
    assert config_from_pb(bettong.Framework.ONNX, message).batch_config() == "single"


def test_one_row_at_a_time_and_waiting_for_rows_end_each_other() -> None:
    """The newer wish holds; columns stay in any case, and so does everything when nothing is given."""
    message = models_pb2.ModelConfig(tensor_fields=["a"])
    waiting = bettong.DynamicBatchingConfig(2, 8)
    batching_to_pb(message, None, waiting)
    batching_to_pb(message, "single", None)
    assert message == models_pb2.ModelConfig(tensor_fields=["a"], batch_mode=models_pb2.BATCH_MODE_SINGLE)
    batching_to_pb(message, None, None)
    assert message.batch_mode == models_pb2.BATCH_MODE_SINGLE
    batching_to_pb(message, None, waiting)
    batching_to_pb(message, None, None)
    config = config_from_pb(bettong.Framework.ONNX, message)
    assert (config.batch_config(), config.dynamic_batching_config()) == (None, waiting)


@pytest.mark.parametrize(("batch_config", "dynamic"), [("double", None), ("single", bettong.DynamicBatchingConfig())])
def test_batching_settings_that_do_not_fit_are_refused(
    batch_config: str, dynamic: bettong.DynamicBatchingConfig | None
) -> None:
    """Unknown words and settings that exclude each other are refused."""
    with pytest.raises(bettong.InvalidInputError, match="batch_config"):
        batching_to_pb(models_pb2.ModelConfig(), batch_config, dynamic)


@pytest.mark.parametrize(("delay_ms", "target", "limit"), [(-1, 4, None), (10, 0, None), (10, 4, 3), (10**6, 4, None)])
def test_dynamic_batching_is_checked(delay_ms: float, target: int, limit: int | None) -> None:
    """Values without sense are refused when they are given."""
    with pytest.raises(bettong.InvalidInputError):
        bettong.DynamicBatchingConfig(delay_ms, target, limit)


def test_limit_bounds_the_batch() -> None:
    """The longest batch is the limit, or the target without one."""
    assert bettong.DynamicBatchingConfig(10, 4).max_batch_rows == 4
    assert bettong.DynamicBatchingConfig(10, 4, 16).max_batch_rows == 16


def test_schemas_stand_for_columns() -> None:
    """An input schema names the columns unless they are given; an output schema must name outputs."""
    schema = pa.schema({"a": pa.float32(), "b": pa.float32()})
    assert fields_of_schema(schema, None) == ["a", "b"]
    assert fields_of_schema(schema, ["c"]) == ["c"]
    assert fields_of_schema(None, None) is None
    check_output_schema(pa.schema({"y": pa.float32()}), SIGNATURE)
    with pytest.raises(bettong.InvalidInputError, match="no output 'a'; it has 'y'"):
        check_output_schema(schema, SIGNATURE)


def test_another_runtime_is_refused() -> None:
    """A runtime that does not run the model is not accepted in silence."""
    check_runtime("onnx", bettong.Framework.ONNX)
    with pytest.raises(bettong.InvalidInputError, match="run by 'onnx'"):
        check_runtime("flight", bettong.Framework.ONNX)


@pytest.mark.parametrize("given", ["tensor", [1, 2]])
def test_fields_are_a_list_of_names(given: object) -> None:
    """A text would be taken for a name a letter."""
    with pytest.raises(bettong.InvalidInputError, match="tensor_fields must be"):
        fields_of_schema(None, given)  # type: ignore[arg-type]
