"""tritonclient's gRPC client as a witness: whatever it asks of its own server must work here."""

import queue
from collections.abc import Iterator

import numpy as np
import pytest
from onnx_files import TAGGED_WEIGHTS
from servers import Server
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

WAIT_S = 10


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.data) as connected:
        yield connected


def tagged_inputs(tags: np.ndarray, x: np.ndarray) -> list[triton.InferInput]:
    inputs = [triton.InferInput("tag", list(tags.shape), "INT64"), triton.InferInput("x", list(x.shape), "FP32")]
    inputs[0].set_data_from_numpy(tags)
    inputs[1].set_data_from_numpy(x)
    return inputs


def rows(count: int, request: int = 7) -> tuple[np.ndarray, np.ndarray]:
    tags = np.array([[request, row] for row in range(count)], np.int64)
    return tags, (np.arange(count * 3, dtype=np.float32) / 3).reshape(count, 3)


def refused(status: str, match: str | None = None) -> "pytest.RaisesExc[InferenceServerException]":
    def is_that(error: InferenceServerException) -> bool:
        return bool(error.status() == f"StatusCode.{status}")

    return pytest.raises(InferenceServerException, match=match, check=is_that)


def test_the_server_is_live_and_ready(client: triton.InferenceServerClient) -> None:
    """Both questions are answered yes once models serve."""
    assert client.is_server_live()
    assert client.is_server_ready()


def test_a_model_is_ready_in_its_version_only(client: triton.InferenceServerClient) -> None:
    """With no version, or the one that serves; others are not there."""
    assert client.is_model_ready("tagged")
    assert client.is_model_ready("tagged", "1")
    with refused("NOT_FOUND", "version"):
        client.is_model_ready("tagged", "9")


def test_server_metadata_names_its_extensions(client: triton.InferenceServerClient) -> None:
    """Clients look for extensions before they use them."""
    metadata = client.get_server_metadata()
    assert metadata.name == "bettong"
    assert {"binary_tensor_data", "statistics", "model_repository", "model_configuration"} <= set(metadata.extensions)


def test_model_metadata_has_every_tensor(client: triton.InferenceServerClient) -> None:
    """Names, dtypes and shapes, with -1 for what is free."""
    metadata = client.get_model_metadata("tagged", as_json=True)
    assert metadata["name"] == "tagged"
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [
        {"name": "tag", "datatype": "INT64", "shape": ["-1", "2"]},
        {"name": "x", "datatype": "FP32", "shape": ["-1", "3"]},
    ]
    assert [output["name"] for output in metadata["outputs"]] == ["echo", "y", "sum"]


def test_model_config_leaves_the_batch_dimension_out(client: triton.InferenceServerClient) -> None:
    """As Triton's does for a model with a batch size."""
    config = client.get_model_config("tagged").config
    assert config.max_batch_size > 1
    assert [(given.name, list(given.dims)) for given in config.input] == [("tag", [2]), ("x", [3])]
    assert [(output.name, list(output.dims)) for output in config.output] == [("echo", [2]), ("y", [4]), ("sum", [1])]


def test_infer_gives_every_output(client: triton.InferenceServerClient) -> None:
    """Values, names, dtypes, shapes and the model's name and version."""
    tags, x = rows(5)
    result = client.infer("tagged", tagged_inputs(tags, x))
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))
    np.testing.assert_allclose(x @ TAGGED_WEIGHTS, result.as_numpy("y"), rtol=1e-5)
    response = result.get_response()
    assert (response.model_name, response.model_version) == ("tagged", "1")
    assert [(output.name, output.datatype, list(output.shape)) for output in response.outputs] == [
        ("echo", "INT64", [5, 2]),
        ("y", "FP32", [5, 4]),
        ("sum", "FP32", [5, 1]),
    ]


def test_the_request_id_comes_back(client: triton.InferenceServerClient) -> None:
    """Whatever text it is."""
    result = client.infer("tagged", tagged_inputs(*rows(1)), request_id="größe-42")
    assert result.get_response().id == "größe-42"


def test_inputs_may_come_in_any_order(client: triton.InferenceServerClient) -> None:
    """They are matched by name."""
    tags, x = rows(2)
    result = client.infer("tagged", tagged_inputs(tags, x)[::-1])
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))


def test_only_requested_outputs_come_in_the_order_of_the_request(client: triton.InferenceServerClient) -> None:
    """The others are not sent."""
    wanted = [triton.InferRequestedOutput("sum"), triton.InferRequestedOutput("echo")]
    response = client.infer("tagged", tagged_inputs(*rows(2)), outputs=wanted).get_response()
    assert [output.name for output in response.outputs] == ["sum", "echo"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    """In both ways that the client knows."""
    tags, x = rows(100)
    result = client.infer("tagged", tagged_inputs(tags, x), compression_algorithm=algorithm)
    np.testing.assert_array_equal(tags, result.as_numpy("echo"))


def test_a_generous_time_out_changes_nothing(client: triton.InferenceServerClient) -> None:
    """Both the client's own and the server's parameter in microseconds."""
    result = client.infer("tagged", tagged_inputs(*rows(1)), client_timeout=WAIT_S, timeout=WAIT_S * 1_000_000)
    assert result.as_numpy("echo").shape == (1, 2)


def test_headers_are_taken(client: triton.InferenceServerClient) -> None:
    """Metadata that means nothing here is not an error."""
    result = client.infer("tagged", tagged_inputs(*rows(1)), headers={"x-tenant": "a"})
    assert result.as_numpy("echo").shape == (1, 2)


def test_callbacks_answer_all_requests_in_flight(client: triton.InferenceServerClient) -> None:
    """Each asynchronous request gets its own reply."""
    answers: queue.Queue[tuple[triton.InferResult, InferenceServerException]] = queue.Queue()
    for number in range(20):
        client.async_infer(
            "tagged",
            tagged_inputs(*rows(3, number)),
            callback=lambda result, error: answers.put((result, error)),
            request_id=str(number),
        )
    replies = [answers.get(timeout=WAIT_S) for _ in range(20)]
    assert [error for _, error in replies] == [None] * 20
    assert all(int(reply.get_response().id) == reply.as_numpy("echo")[0, 0] for reply, _ in replies)
    assert {int(reply.get_response().id) for reply, _ in replies} == set(range(20))


def test_unknown_model_and_version_are_not_found(client: triton.InferenceServerClient) -> None:
    """The name that was asked for is in the message."""
    with refused("NOT_FOUND", "nothing-here"):
        client.infer("nothing-here", tagged_inputs(*rows(1)))
    with refused("NOT_FOUND", "tagged"):
        client.infer("tagged", tagged_inputs(*rows(1)), model_version="2")
    with refused("NOT_FOUND", "nothing-here"):
        client.get_model_metadata("nothing-here")
    with refused("NOT_FOUND", "nothing-here"):
        client.get_model_config("nothing-here")
    with refused("NOT_FOUND", "nothing-here"):
        client.get_inference_statistics("nothing-here")


def one_input(name: str, shape: list[int], dtype: str, values: np.ndarray) -> triton.InferInput:
    given = triton.InferInput(name, shape, dtype)
    given.set_data_from_numpy(values)
    return given


X = one_input("x", [1, 3], "FP32", np.zeros([1, 3], np.float32))
TAG = one_input("tag", [1, 2], "INT64", np.zeros([1, 2], np.int64))


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        pytest.param([X], "'tag' is missing", id="missing"),
        pytest.param([], "missing|no inputs", id="none"),
        pytest.param([X, TAG, one_input("z", [1], "FP32", np.zeros(1, np.float32))], "'z'", id="superfluous"),
        pytest.param([X, X, TAG], "'x'", id="twice"),
        pytest.param([one_input("x", [1, 4], "FP32", np.zeros([1, 4], np.float32)), TAG], "'x'", id="width"),
        pytest.param([one_input("x", [3], "FP32", np.zeros(3, np.float32)), TAG], "'x'", id="rank"),
        pytest.param([one_input("x", [1, 3], "FP64", np.zeros([1, 3])), TAG], "'x'.*FP32|FP64.*'x'", id="dtype"),
        pytest.param([one_input("x", [0, 3], "FP32", np.zeros([0, 3], np.float32)), TAG], "row", id="zero rows"),
        pytest.param([one_input("x", [2, 3], "FP32", np.zeros([2, 3], np.float32)), TAG], "rows", id="ragged"),
    ],
)
def test_wrong_inputs_are_refused_by_name(
    client: triton.InferenceServerClient, inputs: list[triton.InferInput], match: str
) -> None:
    """With INVALID_ARGUMENT, and the server goes on."""
    with refused("INVALID_ARGUMENT", match):
        client.infer("tagged", inputs)
    assert client.is_server_ready()


def test_an_unknown_output_is_refused_by_name(client: triton.InferenceServerClient) -> None:
    """The message lists those that are there."""
    with refused("INVALID_ARGUMENT", "nope.*echo"):
        client.infer("tagged", tagged_inputs(*rows(1)), outputs=[triton.InferRequestedOutput("nope")])


def test_shared_memory_is_refused_plainly(client: triton.InferenceServerClient) -> None:
    """UNIMPLEMENTED says that the protocol has it and this server does not."""
    with refused("UNIMPLEMENTED", "(?i)shared.?memory"):
        client.register_system_shared_memory("region", "/key", 64)
    with refused("UNIMPLEMENTED", "(?i)shared.?memory"):
        client.get_system_shared_memory_status()
    given = tagged_inputs(*rows(1))
    given[1] = triton.InferInput("x", [1, 3], "FP32")
    given[1].set_shared_memory("region", 12)
    with refused("UNIMPLEMENTED", "(?i)shared.?memory"):
        client.infer("tagged", given)
    wanted = triton.InferRequestedOutput("y")
    wanted.set_shared_memory("region", 16)
    with refused("UNIMPLEMENTED", "(?i)shared.?memory"):
        client.infer("tagged", tagged_inputs(*rows(1)), outputs=[wanted])


@pytest.mark.parametrize("call", ["get_trace_settings", "get_log_settings"])
def test_settings_of_triton_itself_are_unimplemented(client: triton.InferenceServerClient, call: str) -> None:
    """Nothing is pretended."""
    with refused("UNIMPLEMENTED"):
        getattr(client, call)()


def test_statistics_count_requests_and_rows(client: triton.InferenceServerClient, passing: str) -> None:
    """Successes and failures of one model, and of it among all."""
    given = one_input("x", [3, 4], "FP32", np.zeros([3, 4], np.float32))
    for _ in range(4):
        client.infer(passing, [given])
    with refused("INVALID_ARGUMENT"):
        client.infer(passing, [X])
    (stats,) = client.get_inference_statistics(passing).model_stats
    assert (stats.name, stats.version, stats.inference_count) == (passing, "1", 12)
    assert 1 <= stats.execution_count <= 4
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (4, 1)
    assert stats.inference_stats.success.ns >= stats.inference_stats.compute_infer.ns > 0
    assert stats.last_inference > 1_700_000_000_000
    every = {found.name for found in client.get_inference_statistics().model_stats}
    assert {passing, "tagged"} <= every


def test_a_model_is_unloaded_and_loaded(client: triton.InferenceServerClient, passing: str) -> None:
    """The index tells its state each time; what is unloaded is not there for requests."""

    def state() -> str:
        index = client.get_model_repository_index()
        (found,) = [model.state for model in index.models if model.name == passing]
        return str(found)

    given = [one_input("x", [1, 4], "FP32", np.ones([1, 4], np.float32))]
    assert state() == "READY"
    client.unload_model(passing)
    assert state() == "UNAVAILABLE"
    with pytest.raises(InferenceServerException) as caught:
        client.infer(passing, given)
    assert caught.value.status() in {"StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND"}
    client.load_model(passing)
    assert state() == "READY"
    assert client.infer(passing, given).as_numpy("y").tolist() == [[1.0] * 4]


def test_loading_what_is_not_there_or_with_a_file_is_refused(client: triton.InferenceServerClient) -> None:
    """Uploads belong to the control plane."""
    with refused("NOT_FOUND", "nothing-here"):
        client.load_model("nothing-here")
    with refused("NOT_FOUND", "nothing-here"):
        client.unload_model("nothing-here")
    with refused("UNIMPLEMENTED", "parameters"):
        client.load_model("tagged", config="{}")


class Stream:
    """One streaming call, whose replies are taken one by one."""

    def __init__(self, client: triton.InferenceServerClient, **options: object) -> None:
        self._client = client
        self._replies: queue.Queue[tuple[triton.InferResult, InferenceServerException]] = queue.Queue()
        client.start_stream(lambda result, error: self._replies.put((result, error)), **options)

    def send(self, number: int, count: int = 1, **options: object) -> None:
        self._client.async_stream_infer(
            "tagged", tagged_inputs(*rows(count, number)), request_id=str(number), **options
        )

    def next(self) -> tuple[triton.InferResult, InferenceServerException]:
        return self._replies.get(timeout=WAIT_S)


@pytest.fixture
def stream(client: triton.InferenceServerClient) -> Iterator[Stream]:
    yield Stream(client)
    client.stop_stream()


def test_a_stream_answers_in_order(stream: Stream) -> None:
    """However many rows each message has."""
    for number in range(50):
        stream.send(number, 1 + number * 7 % 30)
    for number in range(50):
        result, error = stream.next()
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("echo")[:, 0].tolist() == [number] * (1 + number * 7 % 30)


def test_an_error_in_a_stream_is_its_messages_alone(client: triton.InferenceServerClient, stream: Stream) -> None:
    """It comes in its place, and the stream goes on."""
    stream.send(1)
    client.async_stream_infer("tagged", [X], request_id="2")
    client.async_stream_infer("nothing-here", [X], request_id="3")
    stream.send(4)
    assert stream.next()[0].get_response().id == "1"
    for name in ("tag", "nothing-here"):
        result, error = stream.next()
        assert result is None
        assert name in error.message()
    assert stream.next()[0].get_response().id == "4"


def test_a_final_response_is_flagged_on_request(stream: Stream) -> None:
    """Clients of decoupled models wait for the flag."""
    stream.send(1, enable_empty_final_response=True)
    stream.send(2)
    first, second = stream.next()[0].get_response(), stream.next()[0].get_response()
    assert first.parameters["triton_final_response"].bool_param
    assert "triton_final_response" not in second.parameters or second.parameters["triton_final_response"].bool_param


def test_a_compressed_stream_is_read(client: triton.InferenceServerClient) -> None:
    """Each of its messages is."""
    stream = Stream(client, compression_algorithm="gzip")
    for number in range(5):
        stream.send(number, 50)
    assert [stream.next()[0].get_response().id for _ in range(5)] == list("01234")
    client.stop_stream()


def test_a_stream_can_be_abandoned(client: triton.InferenceServerClient, server: Server) -> None:
    """Cancelling it with requests under way harms nobody."""
    stream = Stream(client)
    for number in range(20):
        stream.send(number, 200)
    client.stop_stream(cancel_requests=True)
    with triton.InferenceServerClient(server.data) as other:
        assert other.infer("tagged", tagged_inputs(*rows(1))).as_numpy("echo").shape == (1, 2)


def test_typed_contents_and_raw_give_the_same(client: triton.InferenceServerClient) -> None:
    """A request of the generated message type with typed values is the same request."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    tags, x = rows(3)
    request = service_pb2.ModelInferRequest(model_name="tagged")
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    contents = service_pb2.InferTensorContents
    request.inputs.append(
        tensor(name="tag", datatype="INT64", shape=[3, 2], contents=contents(int64_contents=tags.ravel().tolist()))
    )
    request.inputs.append(
        tensor(name="x", datatype="FP32", shape=[3, 3], contents=contents(fp32_contents=x.ravel().tolist()))
    )
    stub: service_pb2_grpc.GRPCInferenceServiceStub = client._client_stub
    response = stub.ModelInfer(request)
    raw = client.infer("tagged", tagged_inputs(tags, x)).get_response()
    assert response.raw_output_contents == raw.raw_output_contents
