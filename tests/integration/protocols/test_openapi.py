"""The OpenAPI document against the server that serves it: whatever it allows or forbids, nothing breaks."""

from collections.abc import Iterator
from typing import Any

# ruff: noqa: T201 - a seed decides what happens, and a run says what it did
import httpx
import hypothesis
import onnx_files
import pytest
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from servers import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = hypothesis.settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


def no_internal_error(_context: object, response: Any, _case: object) -> None:
    """Refuse 5xx, except the two that tell what is not supported and what is not loaded."""
    assert response.status_code < 500 or response.status_code in {501, 503}, response.text


# What the document must say of each reply.
CHECKS = (no_internal_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve one model on a server of its own, which generated calls may unload."""
    folder = tmp_path_factory.mktemp("openapi")
    with serving(folder / "data", lanes=1) as running:
        running.deploy("identity", onnx_files.identity("FP32"), folder)
        yield running


def operations(served: Server) -> Iterator[Any]:
    """Return each method of each path of the document."""
    for result in schemathesis.openapi.from_url(f"{served.url}/openapi.json").get_all_operations():
        operation: Any = result
        yield operation.ok()


# A path or a query may be anything, so each operation is asked for itself; the names of models that exist are few.
NAMES = ("identity", "none")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_generated_calls_never_break_the_server(served: Server, mode: GenerationMode) -> None:
    """Valid and invalid ones get a status and a body that the document has, and never an internal error."""
    asked = 0

    def check(case: Any) -> None:
        nonlocal asked
        asked += 1
        if "name" in case.path_parameters and case.operation.method != "get":
            case.path_parameters["name"] = NAMES[asked % 2]
        case.call_and_validate(checks=CHECKS)

    for operation in operations(served):
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            given: Any = hypothesis.given(strategy)
            SETTINGS(given(check))()
        except Unsatisfiable:
            # An operation without parameters and body has no invalid calls.
            assert mode is GenerationMode.NEGATIVE
    print(f"{asked} calls")
    assert asked > 200
    assert httpx.get(f"{served.url}/readyz").status_code == 200


def test_every_path_of_the_document_is_there(served: Server) -> None:
    """A path that is documented is never answered as one that is not."""
    document = httpx.get(f"{served.url}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    for path, operations in document["paths"].items():
        for method in set(operations) & {"get", "post"}:
            url = served.url + path.replace("{name}", "identity").replace("{version}", "1")
            reply = httpx.request(method, url, timeout=20)
            assert "there is nothing at" not in reply.text, (method, path)
            assert reply.status_code != 405, (method, path)
