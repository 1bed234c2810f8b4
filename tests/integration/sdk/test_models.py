"""Models through the SDK, against a real server."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import onnx
import pyarrow as pa
import pytest
from fakes.models import linear_model

import bettong


def test_upload_takes_path_bytes_and_model(client: bettong.Client, name: str, tmp_path: Path) -> None:
    """The same model in each form is the same content; each upload is a new version."""
    content = linear_model(4)
    path = tmp_path / "Sums.onnx"
    path.write_bytes(content)
    versions = [
        client.upload_model(name, given) for given in (path, str(path), content, onnx.load(io.BytesIO(content)))
    ]
    assert [version.version() for version in versions] == [1, 2, 3, 4]
    assert versions[0].sha() == hashlib.sha256(content).hexdigest()
    assert len({version.sha() for version in versions[:3]}) == 1
    assert [version.file_name() for version in versions] == ["Sums.onnx", "Sums.onnx", f"{name}.onnx", f"{name}.onnx"]


def test_version_tells_what_it_is(client: bettong.Client, name: str) -> None:
    """Name, status, framework, size and signature are there as soon as it is uploaded."""
    content = linear_model(4)
    version = client.upload_model(name, content)
    assert (version.name(), version.status(), version.framework()) == (name, "ready", bettong.Framework.ONNX)
    assert version.size_bytes == len(content)
    assert version.inputs == (bettong.TensorSpec("x", "FP32", (-1, 4)),)
    assert version.outputs == (bettong.TensorSpec("y", "FP32", (-1, 1)),)
    assert version.created.tzinfo is not None
    assert version.config().runtime() == "onnx"


def test_versions_are_found_again(client: bettong.Client, name: str) -> None:
    """The newest is what one gets; older ones are there by number."""
    first, second = (client.upload_model(name, linear_model(4, weight=weight)) for weight in (1.0, 2.0))
    assert client.get_model(name) == second
    assert client.get_model(name, 1) == first
    assert first.versions() == [first, second]
    found = next(model for model in client.list_models() if model.name() == name)
    assert found.versions() == [first, second]
    assert found.latest() == second


def test_config_is_kept(client: bettong.Client, name: str) -> None:
    """What was configured is what the server says later; what was not given stays."""
    version = client.upload_model(name, linear_model(4)).configure(tensor_fields=["tensor"])
    version.configure(dynamic_batching_config=bettong.DynamicBatchingConfig(2, 8))
    config = client.get_model(name).config()
    assert config.tensor_fields() == ["tensor"]
    assert config.dynamic_batching_config() == bettong.DynamicBatchingConfig(2, 8)


def test_input_schema_names_the_columns(client: bettong.Client, name: str) -> None:
    """A schema at upload stands for `tensor_fields`; an output schema must name outputs."""
    schema = pa.schema({"tensor": pa.list_(pa.float32(), 4)})
    version = client.upload_model(
        name, linear_model(4), input_schema=schema, output_schema=pa.schema({"y": pa.float32()})
    )
    assert version.config().tensor_fields() == ["tensor"]
    with pytest.raises(bettong.InvalidInputError, match="no output 'z'"):
        client.upload_model(name, linear_model(4), output_schema=pa.schema({"z": pa.float32()}))
    assert client.get_model(name).versions() == [version]


@pytest.mark.parametrize("content", [b"", b"no model", linear_model(4)[:-20]])
def test_what_is_no_model_is_refused_and_not_stored(client: bettong.Client, name: str, content: bytes) -> None:
    """Bad files are refused with the reason; the name stays free."""
    with pytest.raises(bettong.InvalidInputError) as caught:
        client.upload_model(name, content)
    assert str(caught.value)
    with pytest.raises(bettong.NotFoundError):
        client.get_model(name)


def test_bad_names_are_refused(client: bettong.Client) -> None:
    """The message shows the name."""
    with pytest.raises(bettong.InvalidInputError, match="Bad Name"):
        client.upload_model("Bad Name", linear_model(4))


def test_unreadable_file_is_refused(client: bettong.Client, name: str, tmp_path: Path) -> None:
    """A file that is not there is said to be so, before the server is asked."""
    with pytest.raises(bettong.InvalidInputError, match=r"none\.onnx cannot be read"):
        client.upload_model(name, tmp_path / "none.onnx")
    with pytest.raises(bettong.InvalidInputError, match="not int"):
        client.upload_model(name, 7)  # type: ignore[arg-type]


def test_config_that_does_not_fit_is_refused_with_the_field(client: bettong.Client, name: str) -> None:
    """The server's reason names the setting, and the error has it."""
    version = client.upload_model(name, linear_model(4))
    with pytest.raises(bettong.InvalidInputError) as caught:
        version.configure(tensor_fields=["a", "b"])
    assert caught.value.field == "tensor_fields"


def test_settings_without_effect_are_reported_once(client: bettong.Client, name: str) -> None:
    """An accelerator that the server does not have is accepted, and said so once."""
    with pytest.warns(bettong.IgnoredSettingWarning, match="accel has no effect"):
        client.upload_model(name, linear_model(4), accel=bettong.Acceleration.CUDA)
    client.upload_model(name, linear_model(4), accel=bettong.Acceleration.CUDA)


def test_delete(client: bettong.Client, name: str, deployed: Callable[..., bettong.Pipeline]) -> None:
    """Versions that nothing uses can be deleted; one in use is guarded."""
    deployed()
    with pytest.raises(bettong.ConflictError):
        client.delete_model(name, 1)
    unused = client.upload_model(name, linear_model(4))
    unused.delete()
    with pytest.raises(bettong.NotFoundError):
        client.get_model(name, unused.version())
