"""Inference through the SDK, against a real server."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from onnx import helper

import bettong

Deploy = Callable[..., bettong.Pipeline]

VECTORS = np.arange(20, dtype=np.float32).reshape(5, 4)
SUMS = VECTORS.sum(1).tolist()
FRAMES: dict[str, Any] = {
    "pandas": pd.DataFrame({"tensor": VECTORS.tolist()}),
    "polars": pl.DataFrame({"tensor": VECTORS}),
    "arrow": pa.table({"tensor": pa.array(VECTORS.tolist(), pa.list_(pa.float32()))}),
    "arrow fixed": pa.table({"tensor": pa.array(VECTORS.tolist(), pa.list_(pa.float32(), 4))}),
    "arrays": {"tensor": VECTORS},
    "records": [{"tensor": row} for row in VECTORS.tolist()],
}


def sums(reply: Any) -> list[float]:
    """Return the outputs of a reply of any kind."""
    if isinstance(reply, list):
        return [record["out.y"][0] for record in reply]
    column: Any = reply.column("out.y").to_pylist() if isinstance(reply, pa.Table) else list(reply["out.y"])
    return [float(cell[0]) for cell in column]


@pytest.mark.parametrize("kind", FRAMES)
def test_same_kind_back_with_the_same_answer(deployed: Deploy, kind: str) -> None:
    """Every kind of frame gives the same numbers, in the kind and order that was given."""
    reply = deployed().infer(FRAMES[kind])
    assert type(reply) is type(FRAMES[kind])
    assert sums(reply) == SUMS


def test_columns_are_those_of_the_platform(deployed: Deploy) -> None:
    """Time, inputs, outputs and the anomaly count; metadata only when named."""
    pipeline, frame = deployed(), FRAMES["pandas"]
    assert list(pipeline.infer(frame).columns) == ["time", "in.tensor", "out.y", "anomaly.count"]
    assert list(pipeline.infer(frame, dataset=["out"]).columns) == ["out.y"]
    assert list(pipeline.infer(frame, dataset_exclude=["in", "time"]).columns) == ["out.y", "anomaly.count"]
    assert list(pipeline.infer(frame, dataset_separator="_").columns) == ["time", "in_tensor", "out_y", "anomaly_count"]


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize(
    "columns", [{"dataset": ["in"]}, {"dataset": "in.tensor"}, {"dataset_exclude": ["time", "out", "anomaly"]}]
)
def test_given_columns_alone_can_be_asked_for(deployed: Deploy, kind: str, columns: dict[str, Any]) -> None:
    """Given columns never travel back, and a reply of nothing else comes in each kind, with and without the server."""
    pipeline, frame = deployed(), FRAMES[kind]
    for reply in (pipeline.infer(frame, **columns), pipeline.local().infer(frame, **columns)):
        assert type(reply) is type(frame)
        names: Any = reply[0] if isinstance(reply, list) else getattr(reply, "column_names", reply)
        assert list(getattr(names, "columns", names)) == ["in.tensor"]


def test_rows_are_checked_even_if_no_answer_is_wanted(deployed: Deploy) -> None:
    """A reply of given columns alone is refused as any other, and so is one of nothing at all."""
    pipeline = deployed()
    with pytest.raises(bettong.InvalidInputError, match="tensor"):
        pipeline.infer({"tensor": VECTORS[:, :3]}, dataset=["in"])
    with pytest.raises(bettong.InvalidInputError, match="no column of the reply is left"):
        pipeline.infer(FRAMES["arrays"], dataset=["out"], dataset_exclude=["out"])


def test_a_closed_client_answers_nothing(client: bettong.Client, deployed: Deploy) -> None:
    """What is asked after the end is refused, on every way."""
    name = deployed().name()
    with bettong.Client(client.url()) as other:
        pipeline = other.get_pipeline(name)
        assert sums(pipeline.infer(FRAMES["arrays"])) == SUMS
    for ask in (
        lambda: pipeline.infer(FRAMES["arrays"]),
        lambda: next(pipeline.stream([{"tensor": [0.0] * 4}])),
        lambda: asyncio.run(pipeline.async_infer(FRAMES["arrays"], httpx.AsyncClient())),
    ):
        with pytest.raises(bettong.UnreachableError, match="this client is closed"):
            ask()


def test_metadata_names_model_and_version(deployed: Deploy, name: str) -> None:
    """With `metadata` in the dataset a reply says what made it and how long that took."""
    reply = deployed().infer(FRAMES["pandas"], dataset=["*", "metadata"])
    last = json.loads(reply["metadata.last_model"][0])
    assert last["model_name"] == name
    assert reply["metadata.pipeline_version"][0] == "1"
    assert len(reply["metadata.elapsed"][0]) == 2
    assert reply["anomaly.count"].tolist() == [0] * 5


def test_time_is_now(deployed: Deploy) -> None:
    """`time` is the moment of the answer, in milliseconds."""
    before = pd.Timestamp.now("UTC").tz_localize(None).floor("ms")
    reply = deployed().infer(FRAMES["pandas"])
    assert (reply["time"] >= before).all()
    assert (reply["time"] <= pd.Timestamp.now("UTC").tz_localize(None)).all()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
def test_numbers_are_cast_where_that_is_exact(deployed: Deploy, dtype: str) -> None:
    """Doubles and whole numbers are taken for a float model."""
    assert sums(deployed().infer({"tensor": VECTORS.astype(dtype)})) == SUMS


def test_scalar_columns_make_a_row(deployed: Deploy) -> None:
    """As many `tensor_fields` as the input is wide are joined to its rows."""
    pipeline = deployed(tensor_fields=["a", "b", "c", "d"])
    frame = pd.DataFrame(VECTORS, columns=["a", "b", "c", "d"])
    reply = pipeline.infer(frame)
    assert sums(reply) == SUMS
    assert list(reply.columns) == ["time", "in.a", "in.b", "in.c", "in.d", "out.y", "anomaly.count"]


def test_extra_columns_pass_through(deployed: Deploy) -> None:
    """A column that no model takes comes back with the row that it came with."""
    frame = FRAMES["pandas"].assign(card=["a", "b", "c", "d", "e"])
    assert deployed().infer(frame)["in.card"].tolist() == ["a", "b", "c", "d", "e"]


def test_frame_that_does_not_fit_is_refused(deployed: Deploy) -> None:
    """Wrong width, missing column and text are the caller's mistakes, in words."""
    pipeline = deployed()
    for frame in ({"tensor": VECTORS[:, :3]}, {"a": VECTORS, "b": VECTORS}, {"tensor": np.array([["a"] * 4])}):
        with pytest.raises(bettong.InvalidInputError) as caught:
            pipeline.infer(frame)
        assert str(caught.value)


def test_unknown_pipeline_is_not_found(client: bettong.Client, name: str) -> None:
    """A pipeline that nobody made is said to be unknown."""
    with pytest.raises(bettong.NotFoundError, match=name):
        client.build_pipeline(name).infer(FRAMES["pandas"])


def test_many_threads_share_a_client(deployed: Deploy) -> None:
    """One pipeline object answers threads at once, each with its own rows."""
    pipeline = deployed()

    def ask(number: int) -> float:
        return sums(pipeline.infer({"tensor": np.full((1, 4), number, np.float32)}))[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(200))) == [4.0 * number for number in range(200)]


async def test_async_infer_answers_on_a_running_loop(deployed: Deploy) -> None:
    """In a notebook, whose loop runs already, plain and awaited calls work side by side."""
    pipeline = deployed()
    assert sums(pipeline.infer(FRAMES["pandas"])) == SUMS
    assert sums(await pipeline.async_infer(FRAMES["pandas"])) == SUMS
    async with httpx.AsyncClient() as async_client:
        assert sums(await pipeline.async_infer(FRAMES["arrow"], async_client)) == SUMS
        with pytest.raises(bettong.InvalidInputError):
            await pipeline.async_infer({"tensor": VECTORS[:, :3]}, async_client)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
async def test_parallel_infer_keeps_the_order(deployed: Deploy, batch_size: int) -> None:
    """Rows come back in their order, however they were cut."""
    vectors = np.arange(400, dtype=np.float32).reshape(100, 4)
    reply = await deployed().parallel_infer({"tensor": vectors}, batch_size, num_parallel=4)
    assert reply["out.y"][:, 0].tolist() == vectors.sum(1).tolist()
    assert reply["in.tensor"] is vectors


async def test_parallel_infer_of_a_frame_that_never_fits_raises(deployed: Deploy) -> None:
    """When no request can be answered the reason is raised."""
    with pytest.raises(bettong.InvalidInputError):
        await deployed().parallel_infer({"tensor": VECTORS[:, :3]}, num_parallel=2)


async def test_stream_answers_in_order(deployed: Deploy) -> None:
    """Records and frames go through a stream, in order, each in its kind."""
    pipeline = deployed()
    records = [{"tensor": [float(number)] * 4} for number in range(50)]
    assert [reply["out.y"] for reply in pipeline.stream(records, max_in_flight=8)] == [[4.0 * n] for n in range(50)]
    frames = [FRAMES["pandas"], FRAMES["pandas"]]
    assert [sums(reply) for reply in pipeline.stream(frames)] == [SUMS, SUMS]

    async def source() -> AsyncIterator[dict[str, Any]]:
        for record in records:
            yield record

    assert [reply["out.y"] async for reply in pipeline.stream_async(source())] == [[4.0 * n] for n in range(50)]


def test_stream_goes_on_after_an_error_if_asked(deployed: Deploy) -> None:
    """With `on_error="return"` a bad event is an error in its place, and the stream goes on."""
    events = [{"tensor": [1.0] * 4}, {"tensor": [1.0] * 3}, {"tensor": [2.0] * 4}]
    replies = list(deployed().stream(events, on_error="return"))
    assert not isinstance(replies[0], bettong.BettongError)
    assert replies[0]["out.y"] == [4.0]
    assert isinstance(replies[1], bettong.InvalidInputError)
    assert not isinstance(replies[2], bettong.BettongError)
    assert replies[2]["out.y"] == [8.0]
    with pytest.raises(bettong.InvalidInputError):
        list(deployed().stream(events))


@pytest.fixture
def lookup(client: bettong.Client, name: str) -> bettong.Pipeline:
    """Return a pipeline that fails on rows whose key is not 0 to 3, which only running it can tell."""
    values = helper.make_tensor("values", onnx.TensorProto.FLOAT, [4], [10.0, 11.0, 12.0, 13.0])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["values", "key"], ["value"])],
        "lookup",
        [helper.make_tensor_value_info("key", onnx.TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, ["rows"])],
        [values],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return client.upload_model(name, model).deploy(name)


async def test_parallel_infer_marks_the_rows_that_failed(lookup: bettong.Pipeline) -> None:
    """Rows that the model fails on have no value and say why; the others are answered in their places."""
    frame = pd.DataFrame({"key": [0, 99, 2, 3]})
    reply = await lookup.parallel_infer(frame, batch_size=1, num_parallel=2)
    assert reply["in.key"].tolist() == [0, 99, 2, 3]
    assert reply["out.value"].drop(1).tolist() == [10.0, 12.0, 13.0]
    assert np.isnan(reply["out.value"][1])
    assert [text is None for text in reply["error"]] == [True, False, True, True]


def test_record_that_fails_in_the_model_does_not_harm_its_neighbours(lookup: bettong.Pipeline) -> None:
    """Records that left together with one that fails are answered."""
    replies = list(
        lookup.stream([{"key": 99 if number == 7 else number % 4} for number in range(200)], on_error="return")
    )
    assert [number for number, reply in enumerate(replies) if isinstance(reply, bettong.BettongError)] == [7]
    assert [reply["out.value"] for reply in replies if not isinstance(reply, bettong.BettongError)] == [
        10.0 + number % 4 for number in range(200) if number != 7
    ]


def test_one_bad_record_does_not_harm_those_that_left_with_it(deployed: Deploy) -> None:
    """Records that were sent together are answered each for itself when one of them does not fit."""
    events = [{"tensor": [float(number)] * (3 if number == 150 else 4)} for number in range(300)]
    replies = list(deployed().stream(events, on_error="return"))
    failed = [number for number, reply in enumerate(replies) if isinstance(reply, bettong.BettongError)]
    assert failed == [150]
    assert [reply["out.y"] for reply in replies if not isinstance(reply, bettong.BettongError)] == [
        [4.0 * number] for number in range(300) if number != 150
    ]


def test_stream_takes_no_more_than_it_may(deployed: Deploy) -> None:
    """A reader that stops reading stops the source."""
    taken = threading.Semaphore(0)
    count = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal count
        for _ in range(1_000):
            count += 1
            taken.release()
            yield {"tensor": [1.0] * 4}

    replies = deployed().stream(source(), max_in_flight=3)
    next(iter(replies))
    for _ in range(3):
        assert taken.acquire(timeout=10)
    assert count <= 4
    replies.close()


def test_settings_without_sense_are_refused(deployed: Deploy) -> None:
    """Times and counts that cannot be are refused before anything is sent."""
    pipeline = deployed()
    with pytest.raises(bettong.InvalidInputError, match="timeout"):
        pipeline.infer(FRAMES["pandas"], timeout=0)
    with pytest.raises(bettong.InvalidInputError, match="max_in_flight"):
        pipeline.stream([], max_in_flight=0)
    with pytest.raises(bettong.InvalidInputError, match="on_error"):
        pipeline.stream([], on_error="ignore")  # type: ignore[call-overload]


@pytest.mark.slow
def test_frame_that_is_longer_than_a_request_is_sent_in_parts(deployed: Deploy) -> None:
    """More bytes than the server takes at once are answered all the same, in order."""
    vectors = np.arange(4 * 18_000_000, dtype=np.float64).reshape(-1, 4)
    assert vectors.nbytes > 512 << 20
    reply = deployed().infer({"tensor": vectors}, timeout=60, dataset=["out"])
    assert reply["out.y"].shape == (18_000_000, 1)
    assert reply["out.y"][-1, 0] == pytest.approx(vectors[-1].sum(), rel=1e-6)


def test_golden_rows(ccfraud: bettong.Pipeline, fixtures_path: Path) -> None:
    """The rows of the fixtures give the numbers that they must, from files of each kind."""
    folder = fixtures_path / "ccfraud"
    for file, expected in (("smoke_test.df.json", 0.0014974177), ("dev_high_fraud.json", 0.981199)):
        reply = ccfraud.infer_from_file(folder / file)
        assert reply["out.dense_1"][0][0] == pytest.approx(expected, rel=1e-5)
    table = ccfraud.infer_from_file(folder / "cc_data_10k.arrow")
    scores = np.array(table.column("out.dense_1").to_pylist())[:, 0]
    assert scores[:4] == pytest.approx([0.99300325] * 4, rel=1e-5)
    assert scores[4] == pytest.approx(0.0010916889, rel=1e-5)
    assert int((scores > 0.75).sum()) == 20
    counts = np.array(ccfraud.infer_from_file(folder / "cc_data_1k.df.json")["out.dense_1"].tolist())[:, 0]
    assert [int((counts < 0.001).sum()), int(((counts > 0.001) & (counts < 0.9)).sum()), int((counts > 0.9).sum())] == [
        816,
        179,
        6,
    ]


def test_replies_have_the_shape_of_the_platforms(client: bettong.Client, fixtures_path: Path) -> None:
    """Columns and values equal those of whole replies that were recorded."""
    folder = fixtures_path / "ccfraud"
    model = client.upload_model("golden-xgboost", folder / "xgboost_ccfraud.onnx").configure(tensor_fields=["tensor"])
    pipeline = client.build_pipeline("golden-xgboost").add_model_step(model).deploy()
    golden = json.loads((folder / "expected_edge_xgboost_10k.df.json").read_text())
    reply = pipeline.infer(json.loads((folder / "cc_data_1k.df.json").read_text()), dataset=["*", "metadata"])
    assert len(reply) == len(golden)
    for ours, theirs in zip(reply, golden, strict=True):
        assert ours["out.variable"] == pytest.approx(theirs["out"]["variable"], rel=1e-5, abs=1e-7)
        assert ours["anomaly.count"] == theirs["anomaly"]["count"]
        assert {key.split(".", 1)[1] for key in ours if key.startswith("metadata.")} == theirs["metadata"].keys()
