"""The bench: what is sent, what is read out of a log, what is printed."""

import json
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from bench import calls, table
from bench.calls import Reply
from bench.load import LoadError, Measured, percentile, summarise
from bench.points import point
from bench.results import Figure, Results, Row
from bench.workload import Workload, WorkloadError, card_workload, file_workload


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Return the bench's own model and rows."""
    return card_workload(tmp_path)


def _measured(cpu_us: float, p50_ms: float = 1.0) -> Measured:
    return Measured(requests_per_s=1_000, cpu_us=cpu_us, p50_ms=p50_ms, p99_ms=2.0, failed=0)


def _row(server: str, label: str, cpu_us: float, *, rows: int = 1) -> Row:
    return Row(server, server, label, label, rows, _measured(cpu_us))


def test_a_log_gives_rate_percentiles_and_cpu_of_a_request() -> None:
    """The rate is over the time from first start to last end, CPU over what succeeded."""
    lines = [f"{1_000 * n}\t200\t{100 + n}" for n in range(100)]
    found = summarise(lines, cpu_s=0.001, messages=1)
    assert found.requests_per_s == pytest.approx(100 / ((99_000 + 199) / 1e6))
    assert (found.p50_ms, found.p99_ms) == (0.149, 0.198)
    assert found.cpu_us == pytest.approx(10.0)
    assert found.failed == 0


def test_messages_of_a_stream_count_as_requests() -> None:
    """CPU and rate are of a message, latency is of the call."""
    found = summarise(["0\t200\t1000", "1000\t200\t1000"], cpu_s=0.002, messages=100)
    assert found.requests_per_s == pytest.approx(100_000)
    assert found.cpu_us == pytest.approx(10.0)
    assert found.p50_ms == 1.0


def test_failed_calls_are_counted_apart() -> None:
    """A refusal is no request served, and shows."""
    found = summarise(["0\t200\t1000", "0\t503\t10", "0\t-1\t10"], cpu_s=0.001, messages=1)
    assert found.failed == 2
    assert found.cpu_us == pytest.approx(1_000)


def test_a_log_without_success_is_an_error() -> None:
    """Nothing is divided by nothing; what the generator said is shown."""
    with pytest.raises(LoadError, match="refused"):
        summarise(["0\t503\t10"], cpu_s=1, messages=1, told="connection refused")


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.99, 4), (0.0, 1), (1.0, 4)])
def test_a_percentile_is_a_value_that_was_seen(share: float, value: int) -> None:
    """The least value that so large a share does not exceed."""
    assert percentile([1, 2, 3, 4], share) == value


@pytest.mark.parametrize(
    ("label", "connections", "rows", "protocol"),
    [("c64", 64, 1, "gRPC"), ("b128", 4, 128, "gRPC"), ("s8", 8, 1, "gRPC stream"), ("x16", 16, 1, "REST binary")],
)
def test_a_label_names_protocol_connections_and_rows(label: str, connections: int, rows: int, protocol: str) -> None:
    """The letter is the protocol; the number is connections, or rows of a batch."""
    found = point(label)
    assert (found.connections, found.rows) == (connections, rows)
    assert found.title.startswith(f"{protocol},")


@pytest.mark.parametrize("label", ["", "c", "c0", "z4", "cx"])
def test_other_labels_are_refused(label: str) -> None:
    """A typing mistake is no measurement."""
    with pytest.raises(ValueError, match="is no point"):
        point(label)


def test_a_grpc_call_carries_the_rows_and_reads_its_reply(workload: Workload) -> None:
    """The message decodes to the same rows; raw and typed replies both read back."""
    call = calls.grpc_unary(workload, 3)
    request = service_pb2.ModelInferRequest.FromString(call.body)
    assert request.raw_input_contents[0] == workload.batch(3).tobytes()
    assert list(request.inputs[0].shape) == [3, 29]
    raw = service_pb2.ModelInferResponse(raw_output_contents=[np.array([1, 2, 3], np.float32).tobytes()])
    typed = service_pb2.ModelInferResponse()
    for response in (raw, typed):
        output = response.outputs.add(name="score", datatype="FP32", shape=[3, 1])
    output.contents.fp32_contents.extend([1, 2, 3])
    for response in (raw, typed):
        (found,) = call.read(Reply(response.SerializeToString(), {}))
        assert found.tolist() == [[1], [2], [3]]


def test_a_stream_is_many_framed_messages_and_its_errors_are_raised(workload: Workload) -> None:
    """The body is the framed message so often; an error message is not read as an answer."""
    call = calls.grpc_stream(workload, 1)
    framed = b"\0" + len(call.body).to_bytes(4, "big") + call.body
    assert call.wire_body() == framed * calls.STREAM_MESSAGES
    failure = service_pb2.ModelStreamInferResponse(error_message="no such model")
    with pytest.raises(ValueError, match="no such model"):
        call.read(Reply(failure.SerializeToString(), {}))


def test_rest_calls_carry_the_same_rows_as_numbers_and_as_bytes(workload: Workload) -> None:
    """JSON and binary bodies hold what the model is given."""
    numbers = json.loads(calls.rest_json(workload, 2).body)["inputs"][0]
    assert np.array(numbers["data"], np.float32).tobytes() == workload.batch(2).tobytes()
    binary = calls.rest_binary(workload, 2)
    length = int(binary.headers["inference-header-content-length"])
    assert json.loads(binary.body[:length])["inputs"][0]["parameters"] == {"binary_data_size": 2 * 29 * 4}
    assert binary.body[length:] == workload.batch(2).tobytes()


def test_binary_replies_are_cut_where_their_head_says(workload: Workload) -> None:
    """Two outputs behind one head read back in order."""
    tensors = [
        {"name": name, "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
        for name in ("a", "b")
    ]
    head = json.dumps({"outputs": tensors}).encode()
    body = head + np.array([1, 2, 3, 4], np.float32).tobytes()
    found = calls.rest_binary(workload, 1).read(Reply(body, {"inference-header-content-length": str(len(head))}))
    assert [array.tolist() for array in found] == [[[1, 2]], [[3, 4]]]


def test_rows_begin_again_where_there_are_fewer_than_asked(workload: Workload) -> None:
    """A batch larger than the file repeats its rows, and the model's answers repeat with it."""
    many = workload.batch(1_500)
    assert (many[1_024] == many[0]).all()
    (scores,) = workload.expected(1_500)
    np.testing.assert_allclose(scores[1_024], scores[0], rtol=1e-5)


def test_another_model_takes_rows_of_records(workload: Workload, tmp_path: Path) -> None:
    """Records under the input's name, or in their only column, become the rows."""
    rows = workload.rows[:5]
    for column in ("features", "anything"):
        path = tmp_path / f"{column}.json"
        path.write_text(json.dumps([{column: row.tolist()} for row in rows]))
        found = file_workload(workload.path, input_name="features", rows=path)
        np.testing.assert_array_equal(found.rows, rows)


def test_a_wrong_input_or_column_is_named(workload: Workload, tmp_path: Path) -> None:
    """The message says what there is."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"a": [1.0] * 29, "b": 2}]))
    with pytest.raises(WorkloadError, match=r"inputs are \['features'\]"):
        file_workload(workload.path, input_name="dense_input", rows=path)
    with pytest.raises(WorkloadError, match="no column 'features'"):
        file_workload(workload.path, input_name="features", rows=path)


def test_of_two_rounds_the_cheaper_one_is_kept() -> None:
    """Noise only adds, so the least CPU of a point stands."""
    results = Results()
    for cpu_us in (12.0, 9.0, 15.0):
        results.add(_row("bettong", "c16", cpu_us))
    assert [row.measured.cpu_us for row in results.rows] == [9.0]


def test_ratios_are_printed_beside_their_bars() -> None:
    """A ratio over its bar is marked, one within is not, one that was not measured is left out."""
    results = Results()
    for row in (_row("bettong", "c16", 9.0), _row("bettong", "r16", 9.0), _row("yardstick", "c16", 10.0)):
        results.add(row)
    lines = [line.split() for line in table.lines(results) if "yardstick c16," in line]
    assert [line[-3:] for line in lines] == [["CPU", "0.90", "1.10"], ["0.90", "0.70", "OVER"]]
    assert not any("c64" in line for line in table.lines(results))


def test_the_table_compares_with_the_model_alone_and_says_what_was_left_out() -> None:
    """The share of raw ONNX Runtime is of as many rows; figures and reasons follow the table."""
    results = Results(figures=[Figure("start", 0.28, "s", "<= 0.6")], skipped={"triton": "it does not install"})
    for row in (_row("raw", "b1", 4.0), _row("raw", "b128", 6.0, rows=128), _row("bettong", "b128", 24.0, rows=128)):
        results.add(row)
    printed = list(table.lines(results))
    assert "25%" in printed[3]
    assert any(line.split() == ["start", "0.28", "s", "<=", "0.6"] for line in printed)
    assert "left out: triton: it does not install" in printed
