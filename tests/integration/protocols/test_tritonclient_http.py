"""tritonclient's HTTP client as a witness, in JSON and in the binary tensor extension."""

from collections.abc import Iterator

import numpy as np
import pytest
from onnx_files import TAGGED_WEIGHTS
from servers import Server
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.data, concurrency=4) as connected:
        yield connected


def rows(count: int, request: int = 7) -> tuple[np.ndarray, np.ndarray]:
    tags = np.array([[request, row] for row in range(count)], np.int64)
    return tags, (np.arange(count * 3, dtype=np.float32) / 3).reshape(count, 3)


def one_input(name: str, dtype: str, values: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput(name, list(values.shape), dtype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def tagged_inputs(tags: np.ndarray, x: np.ndarray, *, binary: bool = True) -> list[triton.InferInput]:
    return [one_input("tag", "INT64", tags, binary=binary), one_input("x", "FP32", x, binary=binary)]


def refused(status: int, match: str | None = None) -> "pytest.RaisesExc[InferenceServerException]":
    def is_that(error: InferenceServerException) -> bool:
        return str(error.status()) in {str(status), f"StatusCode.{status}"}

    return pytest.raises(InferenceServerException, match=match, check=is_that)


def test_the_server_is_live_and_ready(client: triton.InferenceServerClient) -> None:
    """Both questions are answered yes once models serve."""
    assert client.is_server_live()
    assert client.is_server_ready()


def test_a_model_is_ready_in_its_version_only(client: triton.InferenceServerClient) -> None:
    """With no version, or the one that serves."""
    assert client.is_model_ready("tagged")
    assert client.is_model_ready("tagged", "1")
    assert not client.is_model_ready("tagged", "9")
    assert not client.is_model_ready("nothing-here")


def test_server_metadata_allows_binary_tensors(client: triton.InferenceServerClient) -> None:
    """The extension's specification asks for its name here."""
    metadata = client.get_server_metadata()
    assert metadata["name"] == "bettong"
    assert "binary_tensor_data" in metadata["extensions"]


@pytest.mark.parametrize("version", ["", "1"])
def test_model_metadata_has_every_tensor(client: triton.InferenceServerClient, version: str) -> None:
    """Names, dtypes and shapes, with -1 for what is free."""
    metadata = client.get_model_metadata("tagged", version)
    assert (metadata["name"], metadata["versions"]) == ("tagged", ["1"])
    assert metadata["inputs"] == [
        {"name": "tag", "datatype": "INT64", "shape": [-1, 2]},
        {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
    ]


def test_model_config_leaves_the_batch_dimension_out(client: triton.InferenceServerClient) -> None:
    """As Triton's does for a model with a batch size."""
    config = client.get_model_config("tagged")
    assert config["max_batch_size"] > 1
    assert [(given["name"], given["data_type"], given["dims"]) for given in config["input"]] == [
        ("tag", "TYPE_INT64", [2]),
        ("x", "TYPE_FP32", [3]),
    ]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer_in_json_and_binary(client: triton.InferenceServerClient, binary_in: bool, binary_out: bool) -> None:
    """Each direction by itself; the answer is the same."""
    tags, x = rows(5)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("y", "echo")]
    result = client.infer("tagged", tagged_inputs(tags, x, binary=binary_in), outputs=wanted)
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))
    np.testing.assert_allclose(x @ TAGGED_WEIGHTS, result.as_numpy("y"), rtol=1e-5)
    response = result.get_response()
    assert (response["model_name"], response["model_version"]) == ("tagged", "1")
    assert [(output["name"], output["datatype"], output["shape"]) for output in response["outputs"]] == [
        ("y", "FP32", [5, 4]),
        ("echo", "INT64", [5, 2]),
    ]
    assert all(("data" in output) != binary_out for output in response["outputs"])


def test_inputs_and_outputs_may_mix_json_and_binary(client: triton.InferenceServerClient) -> None:
    """The choice is each tensor's own."""
    tags, x = rows(3)
    inputs = [one_input("tag", "INT64", tags, binary=False), one_input("x", "FP32", x)]
    wanted = [
        triton.InferRequestedOutput("echo"),
        triton.InferRequestedOutput("y", binary_data=False),
        triton.InferRequestedOutput("sum"),
    ]
    result = client.infer("tagged", inputs, outputs=wanted)
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))
    np.testing.assert_allclose(x @ TAGGED_WEIGHTS, result.as_numpy("y"), rtol=1e-5)
    np.testing.assert_allclose(x.sum(1, keepdims=True), result.as_numpy("sum"), rtol=1e-5)


def test_without_requested_outputs_all_come(client: triton.InferenceServerClient) -> None:
    """The client asks for binary data for all of them by a parameter of the request."""
    tags, x = rows(2)
    result = client.infer("tagged", tagged_inputs(tags, x))
    assert [output["name"] for output in result.get_response()["outputs"]] == ["echo", "y", "sum"]
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))


def test_the_request_id_comes_back(client: triton.InferenceServerClient) -> None:
    """Whatever text it is."""
    result = client.infer("tagged", tagged_inputs(*rows(1)), request_id='"größe" \\ 42')
    assert result.get_response()["id"] == '"größe" \\ 42'


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    """In both ways that the client knows."""
    tags, x = rows(100)
    result = client.infer("tagged", tagged_inputs(tags, x), request_compression_algorithm=algorithm)
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_wish_for_a_compressed_reply_does_no_harm(client: triton.InferenceServerClient, algorithm: str) -> None:
    """The client takes it compressed or not."""
    tags, x = rows(100)
    result = client.infer("tagged", tagged_inputs(tags, x), response_compression_algorithm=algorithm)
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))


def test_parameters_and_queries_are_taken(client: triton.InferenceServerClient) -> None:
    """A generous time-out, a header, a query and parameters of the user's own change nothing."""
    result = client.infer(
        "tagged",
        tagged_inputs(*rows(1)),
        timeout=10_000_000,
        headers={"x-tenant": "a"},
        query_params={"trace": "1"},
        parameters={"mine": "yes", "number": 3},
    )
    assert result.as_numpy("echo").shape == (1, 2)


def test_requests_in_flight_each_get_their_own_reply(client: triton.InferenceServerClient) -> None:
    """On several connections."""
    pending = [client.async_infer("tagged", tagged_inputs(*rows(3, number))) for number in range(20)]
    assert [request.get_result(timeout=10).as_numpy("echo")[0, 0] for request in pending] == list(range(20))


def test_unknown_model_and_version_are_not_found(client: triton.InferenceServerClient) -> None:
    """The name that was asked for is in the message."""
    with refused(404, "nothing-here"):
        client.infer("nothing-here", tagged_inputs(*rows(1)))
    with refused(404, "tagged"):
        client.infer("tagged", tagged_inputs(*rows(1)), model_version="2")
    with refused(404, "nothing-here"):
        client.get_model_metadata("nothing-here")
    with refused(404, "nothing-here"):
        client.get_model_config("nothing-here")
    with refused(404, "nothing-here"):
        client.get_inference_statistics("nothing-here")


X = np.zeros([1, 3], np.float32)
TAG = np.zeros([1, 2], np.int64)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("given", "match"),
    [
        pytest.param([("x", X)], "'tag' is missing", id="missing"),
        pytest.param([("x", X), ("tag", TAG), ("z", X)], "'z'", id="superfluous"),
        pytest.param([("x", X), ("x", X), ("tag", TAG)], "'x'", id="twice"),
        pytest.param([("x", np.zeros([1, 4], np.float32)), ("tag", TAG)], "'x'", id="width"),
        pytest.param([("x", np.zeros(3, np.float32)), ("tag", TAG)], "'x'", id="rank"),
        pytest.param([("x", np.zeros([1, 3])), ("tag", TAG)], "'x'", id="dtype"),
        pytest.param([("x", np.zeros([0, 3], np.float32)), ("tag", TAG)], "row", id="zero rows"),
        pytest.param([("x", np.zeros([2, 3], np.float32)), ("tag", TAG)], "rows", id="ragged"),
    ],
)
def test_wrong_inputs_are_refused_by_name(
    client: triton.InferenceServerClient, given: list[tuple[str, np.ndarray]], match: str, binary: bool
) -> None:
    """With 400, and the connection goes on."""
    dtypes = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}
    inputs = [one_input(name, dtypes[str(values.dtype)], values, binary=binary) for name, values in given]
    with refused(400, match):
        client.infer("tagged", inputs)
    assert client.is_server_ready()


def test_an_unknown_output_is_refused_by_name(client: triton.InferenceServerClient) -> None:
    """The message lists those that are there."""
    with refused(400, "nope.*echo"):
        client.infer("tagged", tagged_inputs(*rows(1)), outputs=[triton.InferRequestedOutput("nope")])


def test_shared_memory_is_refused_plainly(client: triton.InferenceServerClient) -> None:
    """501 says that the protocol has it and this server does not."""
    with refused(501, "(?i)shared.?memory"):
        client.register_system_shared_memory("region", "/key", 64)
    with refused(501, "(?i)shared.?memory"):
        client.get_system_shared_memory_status()
    with refused(501, "(?i)shared.?memory"):
        client.unregister_cuda_shared_memory()
    given = tagged_inputs(*rows(1))
    given[1] = triton.InferInput("x", [1, 3], "FP32")
    given[1].set_shared_memory("region", 12)
    with refused(501, "(?i)shared.?memory"):
        client.infer("tagged", given)
    wanted = triton.InferRequestedOutput("y")
    wanted.set_shared_memory("region", 16)
    with refused(501, "(?i)shared.?memory"):
        client.infer("tagged", tagged_inputs(*rows(1)), outputs=[wanted])


def test_statistics_count_requests_and_rows(client: triton.InferenceServerClient, passing: str) -> None:
    """Successes and failures of one model, and of it among all."""
    for _ in range(4):
        client.infer(passing, [one_input("x", "FP32", np.zeros([3, 4], np.float32))])
    with refused(400):
        client.infer(passing, [one_input("x", "FP32", X)])
    (stats,) = client.get_inference_statistics(passing)["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"]) == (passing, "1", 12)
    assert (stats["inference_stats"]["success"]["count"], stats["inference_stats"]["fail"]["count"]) == (4, 1)
    every = {found["name"] for found in client.get_inference_statistics()["model_stats"]}
    assert {passing, "tagged"} <= every


def test_a_model_is_unloaded_and_loaded(client: triton.InferenceServerClient, passing: str) -> None:
    """The index tells its state each time; what is unloaded is not there for requests."""

    def state() -> str:
        index = client.get_model_repository_index()
        (found,) = [model["state"] for model in index if model["name"] == passing]
        return str(found)

    given = [one_input("x", "FP32", np.ones([1, 4], np.float32))]
    assert state() == "READY"
    client.unload_model(passing)
    assert state() == "UNAVAILABLE"
    assert not client.is_model_ready(passing)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(passing, given)
    assert caught.value.status() in {"404", "503"}
    client.load_model(passing)
    assert state() == "READY"
    assert client.infer(passing, given).as_numpy("y").tolist() == [[1.0] * 4]


def test_loading_what_is_not_there_or_with_a_file_is_refused(client: triton.InferenceServerClient) -> None:
    """Uploads belong to the control plane."""
    with refused(404, "nothing-here"):
        client.load_model("nothing-here")
    with refused(404, "nothing-here"):
        client.unload_model("nothing-here")
    with refused(501, "parameters"):
        client.load_model("tagged", config="{}")
