"""One server for all witnesses of the protocols."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import onnx_files
import pytest
from servers import Server, serving

IDENTITY_PREFIX = "identity-"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve an identity model for each dtype, `tagged` and `poisonable`."""
    folder = tmp_path_factory.mktemp("protocols")
    files = {f"{IDENTITY_PREFIX}{dtype.lower()}": onnx_files.identity(dtype) for dtype in onnx_files.ONNX_TYPES}
    files |= {"tagged": onnx_files.tagged(), "poisonable": onnx_files.poisonable()}
    with serving(folder / "data", lanes=2) as running:
        for name, content in files.items():
            running.deploy(name, content, folder)
        yield running


_numbers = itertools.count(1)


@pytest.fixture
def passing(server: Server, tmp_path: Path) -> str:
    """Deploy an identity model for this test alone and return its name."""
    name = f"passing-{next(_numbers)}"
    server.deploy(name, onnx_files.identity("FP32"), tmp_path)
    return name
