"""Roles and model files for tests of links."""

from collections.abc import Iterator
from pathlib import Path

import onnx_files
import pytest
from engines import Roles, running_roles


@pytest.fixture
def roles() -> Iterator[Roles]:
    """Start roles, and end them after the test."""
    with running_roles() as running:
        yield running


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write model files: `tagged.onnx`, `scaled.onnx`, `product.onnx` and one identity for each dtype."""
    folder = tmp_path_factory.mktemp("models")
    contents = {f"{dtype}.onnx": onnx_files.identity(dtype) for dtype in onnx_files.ONNX_TYPES}
    contents |= {"tagged.onnx": onnx_files.tagged(), "scaled.onnx": onnx_files.scaled(2)}
    contents["product.onnx"] = onnx_files.product()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder
