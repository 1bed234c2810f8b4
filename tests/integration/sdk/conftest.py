"""A real server inside the test process, as `bettong.up()` gives it."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.models import linear_model

import bettong

WIDTH = 4


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bettong.Client]:
    """Return a client of a server that all tests share; each uses names of its own."""
    with bettong.up(data=tmp_path_factory.mktemp("data")) as client:
        yield client


@pytest.fixture
def name() -> str:
    """Return a name that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def deployed(client: bettong.Client, name: str) -> Callable[..., bettong.Pipeline]:
    """Return a function that deploys a pipeline which sums four columns, each times a weight."""

    def deploy(*, weight: float = 1.0, tensor_fields: list[str] | None = None) -> bettong.Pipeline:
        content = linear_model(WIDTH, weight=weight)
        model = client.upload_model(name, content).configure(tensor_fields=tensor_fields or ["tensor"])
        return client.build_pipeline(name).add_model_step(model).deploy()

    return deploy


@pytest.fixture(scope="session")
def ccfraud(client: bettong.Client, fixtures_path: Path) -> bettong.Pipeline:
    """Return the card fraud pipeline of the fixtures."""
    path = fixtures_path / "ccfraud/ccfraud_keras.onnx"
    model = client.upload_model("ccfraud", path, framework=bettong.Framework.ONNX).configure(tensor_fields=["tensor"])
    return client.build_pipeline("ccfraud").add_model_step(model).deploy()
