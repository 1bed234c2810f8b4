"""An executor answers the calls of a witness."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import onnx_files
import onnxruntime
import pytest
from asking import asking
from engines import Role, Roles
from links import DATATYPES, call, linked, numbers, tensor, tensors, until
from tritonclient.grpc import service_pb2 as oip

from bettong.internal.v1 import link_pb2 as pb

HELD_US = 250_000
"""How long a batch waits where a test needs calls that are open."""

UNKNOWN = b"\xa2\x06\x02hi\xa8\x06\x07"
"""Fields 100 and 101, which no version has."""


def columns(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of `tagged`."""
    tags = np.array([[seed, row] for row in range(rows)], np.int64)
    return tags, np.random.default_rng([seed, rows]).normal(size=(rows, 3)).astype(np.float32)


def x(value: float) -> np.ndarray:
    """Return the input of `scaled`."""
    return np.array([[value]], np.float32)


def code_of(outcome: pb.Outcome) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == outcome.failure.code)


@pytest.fixture
def executor(roles: Roles, files: Path) -> Role:
    """Run `tagged` and `scaled`, and `held`, which keeps calls open for a while."""
    role = roles.executor()
    role.host("tagged", files / "tagged.onnx")
    role.host("scaled", files / "scaled.onnx")
    role.host("held", files / "scaled.onnx", delay_us=HELD_US)
    return role


@pytest.mark.parametrize("rows", [1, 2, 300])
async def test_the_numbers_are_those_of_onnxruntime(executor: Role, rows: int) -> None:
    """Outputs come in the order of the signature, with the shape that the model gives them."""
    tag, values = columns(rows)
    async with linked(executor.address, "tagged") as client:
        (outcome,) = await client.answers(call(9, tag, values))
    session = onnxruntime.InferenceSession(onnx_files.tagged())
    expected = session.run(["echo", "y", "sum"], {"tag": tag, "x": values})
    assert not outcome.HasField("failure")
    for sent, wanted in zip(outcome.outputs.tensors, expected, strict=True):
        np.testing.assert_allclose(numbers(sent), wanted, rtol=1e-5, atol=1e-6)
    assert (outcome.batch_rows, len(outcome.steps_ns)) == (rows, 1)


async def test_calls_of_one_bundle_are_answered_each_by_its_sequence(executor: Role) -> None:
    """Sequences are the caller's: any order, any size; each is answered once."""
    sequences = [5, 1, 2**64 - 1, 3, 1 << 40, *range(100, 140)]
    async with linked(executor.address, "tagged") as client:
        outcomes = await client.answers(*(call(one, *columns(1 + at % 4, at)) for at, one in enumerate(sequences)))
        await client.settle()
        assert client.outcomes.keys() == set(sequences)
    for at, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(columns(1 + at % 4, at)[0], numbers(outcome.outputs.tensors[0]))


async def test_names_are_the_callers(executor: Role) -> None:
    """Several pipelines share a link; a name may come in the bundle of the call that uses it, and be given anew."""
    async with linked(executor.address, "tagged") as client:
        name = pb.Name(index=70_000, pipeline="scaled", version="1")
        await client.send(pb.Bundle(names=[name], calls=[call(1, *columns(1)), call(2, x(3), name=70_000)]))
        first, second = await client.wait_for(1, 2)
        assert len(first.outputs.tensors) == 3
        assert numbers(second.outputs.tensors[0]) == 6
        await client.name("scaled", index=1)
        (third,) = await client.answers(call(3, x(4)))
        assert numbers(third.outputs.tensors[0]) == 8


async def test_calls_of_several_links_share_batches(executor: Role) -> None:
    """What waits on one lane is one batch, whoever asks."""
    async with linked(executor.address, "held") as one, linked(executor.address, "held") as other:
        answers = await asyncio.gather(
            *(client.answers(call(1, x(value)), call(2, x(value + 1))) for client, value in ((one, 1.0), (other, 10.0)))
        )
    assert [[float(numbers(out.outputs.tensors[0])[0, 0]) for out in found] for found in answers] == [[2, 4], [20, 22]]
    assert {out.batch_rows for found in answers for out in found} == {4}


async def test_a_name_that_was_not_introduced_fails_the_call(executor: Role) -> None:
    """It was not run, and its neighbours are answered."""
    async with linked(executor.address, "scaled") as client:
        wrong, right = await client.answers(call(1, x(1), name=99), call(2, x(1)))
    assert code_of(wrong) is grpc.StatusCode.INTERNAL
    assert wrong.failure.not_run
    assert numbers(right.outputs.tensors[0]) == 2


async def test_a_pipeline_that_is_not_here_may_be_asked_for_elsewhere(executor: Role) -> None:
    """Another version is another pipeline; what stops is refused from then on."""
    async with linked(executor.address, "scaled", "strange") as client:
        await client.name("scaled", index=3, version="2")
        right, strange, other = await client.answers(call(1, x(1)), call(2, x(1), name=2), call(3, x(1), name=3))
        assert not right.HasField("failure")
        executor.unhost("scaled")
        (stopped,) = await client.answers(call(4, x(1)))
    for outcome in (strange, other, stopped):
        assert code_of(outcome) is grpc.StatusCode.UNAVAILABLE
        assert outcome.failure.not_run
    assert strange.failure.message == "pipeline 'strange' in version '1' is not on this executor"
    assert "'scaled' in version '2'" in other.failure.message


def endless(shape: list[int]) -> pb.Tensors:
    """Return inputs of a shape that needs no bytes."""
    return pb.Tensors(tensors=[pb.Tensor(datatype=DATATYPES[dtype], shape=shape) for dtype in ("INT64", "FP32")])


def x_as(sent: pb.Tensor) -> pb.Tensors:
    """Return inputs for two rows of `tagged`, with another `x`."""
    return pb.Tensors(tensors=[tensor(columns(2)[0]), sent])


X = tensor(columns(2)[1])
SPOILED = {
    "datatype": pb.Call(rows=2, inputs=x_as(pb.Tensor(datatype=DATATYPES["INT32"], shape=X.shape, data=X.data))),
    "unknown datatype": pb.Call(rows=2, inputs=x_as(pb.Tensor(datatype=99, shape=X.shape, data=X.data))),
    "no datatype": pb.Call(rows=2, inputs=x_as(pb.Tensor(shape=X.shape, data=X.data))),
    "rank": pb.Call(rows=2, inputs=x_as(pb.Tensor(datatype=X.datatype, shape=[6], data=X.data))),
    "width": pb.Call(rows=2, inputs=tensors(columns(2)[0], np.zeros((2, 4), np.float32))),
    "rows of one": pb.Call(rows=2, inputs=tensors(columns(2)[0], np.zeros((1, 3), np.float32))),
    "rows": pb.Call(rows=3, inputs=tensors(*columns(2))),
    "zero rows": pb.Call(rows=0, inputs=tensors(columns(0)[0].reshape(0, 2), np.zeros((0, 3), np.float32))),
    "endless rows": pb.Call(rows=2**32 - 1, inputs=endless([2**32 - 1, 0])),
    "byte count": pb.Call(rows=2, inputs=x_as(pb.Tensor(datatype=X.datatype, shape=X.shape, data=X.data[:-1]))),
    "endless shape": pb.Call(rows=2, inputs=x_as(pb.Tensor(datatype=X.datatype, shape=[2**63, 2**63], data=X.data))),
    "a column too few": pb.Call(rows=2, inputs=tensors(columns(2)[0])),
    "a column too many": pb.Call(rows=2, inputs=tensors(*columns(2), columns(2)[0])),
    "nothing": pb.Call(rows=2),
}


@pytest.mark.parametrize("wrong", SPOILED.values(), ids=list(SPOILED))
async def test_a_call_that_does_not_fit_fails_alone(executor: Role, wrong: pb.Call) -> None:
    """Its neighbours in the bundle are answered, and so is what follows."""
    neighbours = [call(sequence, *columns(2, sequence)) for sequence in (2, 3)]
    async with linked(executor.address, "tagged") as client:
        spoiled = pb.Call(sequence=1, name=1, rows=wrong.rows, inputs=wrong.inputs)
        await client.send(pb.Bundle(calls=[neighbours[0], spoiled, neighbours[1]]))
        failed, *others = await client.wait_for(1, 2, 3)
        others += await client.answers(call(4, *columns(2, 4)))
    assert failed.failure.not_run
    assert code_of(failed) is grpc.StatusCode.INTERNAL
    assert not failed.HasField("outputs")
    for outcome in others:
        np.testing.assert_array_equal(columns(2, outcome.sequence)[0], numbers(outcome.outputs.tensors[0]))


@pytest.mark.parametrize("damage", [b"\x1a\xff", b"\x07", b"\x0a\x02\x12\x05", b"\x1a\x02\x08\xff"])
async def test_a_damaged_bundle_ends_the_link_and_says_why(executor: Role, damage: bytes) -> None:
    """Nothing after it can be trusted. Others links live on."""
    async with linked(executor.address, "scaled") as client, linked(executor.address, "scaled") as other:
        await client.send(damage)
        code, message = await client.status()
        assert code is grpc.StatusCode.INVALID_ARGUMENT, message
        assert message
        (outcome,) = await other.answers(call(1, x(1)))
        assert not outcome.HasField("failure")


async def test_an_executor_that_is_newer_or_older_is_understood(executor: Role) -> None:
    """Fields that are not known are passed over, wherever they are."""
    name = pb.Name(index=7, pipeline="scaled", version="1").SerializeToString() + UNKNOWN
    given = tensor(x(4)).SerializeToString() + UNKNOWN
    inputs = b"\x0a" + bytes([len(given)]) + given + UNKNOWN
    one = UNKNOWN + b"\x08\x05\x10\x07\x18\x01" + b"\x7a" + bytes([len(inputs)]) + inputs + UNKNOWN
    bundle = UNKNOWN + b"\x12" + bytes([len(name)]) + name + b"\x1a" + bytes([len(one)]) + one + UNKNOWN
    async with linked(executor.address) as client:
        await client.send(bundle)
        (outcome,) = await client.wait_for(5)
    assert numbers(outcome.outputs.tensors[0]) == 8


async def test_a_model_that_takes_requests_whole_is_asked_as_in_one_process(roles: Roles, files: Path) -> None:
    """Its inputs need not have equally many rows; its outputs have as many as it likes."""
    executor, gateway = roles.executor(), roles.gateway()
    program = executor.host("product", files / "product.onnx", whole=True)
    gateway.serve(program)
    gateway.table([executor.address], all_of=[program])
    a, b = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((2, 4), np.float32)
    request = oip.ModelInferRequest(model_name="product")
    for name, values in (("a", a), ("b", b)):
        request.inputs.add(name=name, datatype="FP32", shape=values.shape)
        request.raw_input_contents.append(values.tobytes())
    async with asking(gateway.address) as client:
        reply = await client.send(request)
    found = np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(reply.outputs[0].shape)
    np.testing.assert_array_equal(a @ b, found)


async def test_a_deadline_that_passes_is_told(executor: Role) -> None:
    """The time counts from the arrival; a neighbour with more of it is answered."""
    async with linked(executor.address, "held") as client:
        late, in_time = await client.answers(call(1, x(1), timeout_us=1), call(2, x(1), timeout_us=4_000_000))
    assert code_of(late) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not in_time.HasField("failure")


async def test_a_cancelled_call_is_not_run(executor: Role) -> None:
    """It is answered once all the same; others of its batch are run."""
    async with linked(executor.address, "held") as client:
        await client.send(pb.Bundle(calls=[call(1, x(1)), call(2, x(2))]), pb.Bundle(cancels=[1]))
        cancelled, other = await client.wait_for(1, 2)
        await client.settle()
    assert code_of(cancelled) is grpc.StatusCode.CANCELLED
    assert other.batch_rows == 1
    assert executor.status.in_flight == 0


async def test_cancelling_what_is_not_open_does_nothing(executor: Role) -> None:
    """Cancels and outcomes may cross, many times over."""
    async with linked(executor.address, "scaled") as client:
        await client.answers(call(1, x(1)))
        await client.send(pb.Bundle(cancels=[1, *range(10, 5_000)]))
        (outcome,) = await client.answers(call(2, x(1)))
    assert not outcome.HasField("failure")


async def test_a_drain_answers_what_is_open(executor: Role) -> None:
    """It is announced first, then every call is answered, then the stream ends well."""
    async with linked(executor.address, "held") as client:
        await client.send(pb.Bundle(calls=[call(1, x(1)), call(2, x(2))]))
        await client.settle()
        draining = asyncio.create_task(asyncio.to_thread(executor.gateway.drain, 5.0))
        while not client.leaving:
            assert await client.read()
        assert not client.outcomes
        await client.send(pb.Bundle(calls=[call(3, x(3))]))
        code, _ = await client.status()
        assert await draining
    assert code is grpc.StatusCode.OK
    assert {at: float(numbers(out.outputs.tensors[0])[0, 0]) for at, out in client.outcomes.items()} == {
        1: 2,
        2: 4,
        3: 6,
    }


@pytest.mark.slow
async def test_a_drain_loses_no_outcome_that_comes_meanwhile(roles: Roles, files: Path) -> None:
    """Batches that run on other threads end at any moment of the look at what is open."""
    for round_ in range(150):
        executor = roles.executor(slow_model_us=1)
        executor.host("scaled", files / "scaled.onnx")
        async with linked(executor.address, "scaled") as client:
            await client.send(pb.Bundle(calls=[call(at, x(at)) for at in range(1, 1 + round_ % 5)]))
            await client.settle()
            assert await asyncio.to_thread(executor.gateway.drain, 5.0)
            code, _ = await client.status()
        assert code is grpc.StatusCode.OK
        assert client.outcomes.keys() == set(range(1, 1 + round_ % 5))
        executor.close()


async def test_a_link_without_calls_ends_with_the_drain(executor: Role) -> None:
    """It does not hold it up."""
    async with linked(executor.address) as idle:
        draining = asyncio.create_task(asyncio.to_thread(executor.gateway.drain, 5.0))
        code, _ = await idle.status()
        assert await draining
    assert code is grpc.StatusCode.OK
    assert idle.leaving


@pytest.mark.parametrize("how", ["cancels", "closes"])
async def test_a_client_that_goes_away_leaves_nothing_behind(executor: Role, how: str) -> None:
    """Its calls are not run, and are not counted as under way any more."""
    async with linked(executor.address, "held") as client:
        await client.send(pb.Bundle(calls=[call(at, x(at)) for at in range(1, 50)]))
        await client.settle()
        assert executor.status.in_flight == 49
        if how == "cancels":
            client.stream.cancel()
        else:
            await client.close()
        await until(lambda: executor.status.in_flight == 0)
    ran = [line for line in executor.gateway.metrics().splitlines() if line.startswith("bettong_rows_total{")]
    assert not [line for line in ran if 'pipeline="held"' in line and not line.endswith(" 0")]


async def test_a_client_that_has_no_more_to_say_is_answered(executor: Role) -> None:
    """Half a stream is enough for outcomes."""
    async with linked(executor.address, "held") as client:
        await client.send(pb.Bundle(calls=[call(1, x(1)), call(2, x(2))]))
        await client.stream.done_writing()
        code, _ = await client.status()
    assert code is grpc.StatusCode.OK
    assert client.outcomes.keys() == {1, 2}


async def test_a_caller_that_overruns_its_window_is_refused(executor: Role) -> None:
    """What is open is answered, other pipelines go on, and so does this one when there is room again."""
    async with linked(executor.address, "held", "scaled") as client:
        window = client.hello.window_calls
        count = window + window // 4
        over = range(count + 1, count + 11)
        outcomes = await client.answers(*(call(at, x(at)) for at in range(1, over.stop)), call(over.stop, x(4), name=2))
        refused = outcomes[count : count + len(over)]
        assert [out.sequence for out in outcomes if out.HasField("failure")] == list(over)
        assert {code_of(out) for out in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert all(out.failure.not_run and out.waiting_rows >= window for out in refused)
        assert numbers(outcomes[-1].outputs.tensors[0]) == 8
        (again,) = await client.answers(call(over.stop + 1, x(5)))
    assert numbers(again.outputs.tensors[0]) == 10


async def test_a_pipeline_has_one_window_whatever_it_is_called(executor: Role) -> None:
    """Introducing it once more gives no more room."""
    async with linked(executor.address, "held", "held") as client:
        half = client.hello.window_calls * 5 // 8
        calls = [call(at, x(at), name=1 + at % 2) for at in range(1, 2 * half + 2)]
        outcomes = await client.answers(*calls)
    assert [out.sequence for out in outcomes if out.HasField("failure")] == [2 * half + 1]


async def test_load_is_told_with_failures_too(roles: Roles, files: Path) -> None:
    """A replica that refuses must not look idle to those who choose."""
    executor = roles.executor(max_queue_rows=4)
    executor.host("held", files / "scaled.onnx", delay_us=HELD_US)
    async with linked(executor.address, "held") as client:
        *_, refused = await client.answers(*(call(at, x(at)) for at in range(1, 7)))
    assert code_of(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.failure.not_run
    assert refused.failure.retry_after_us > 0
    assert refused.waiting_rows >= 4


@pytest.mark.parametrize("megabytes", [1, pytest.param(5, marks=pytest.mark.slow)])
async def test_large_calls_pass(executor: Role, megabytes: int) -> None:
    """Beyond every default of gRPC and every frame of HTTP/2."""
    tag, values = columns(megabytes * (1 << 20) // 28)
    async with linked(executor.address, "tagged") as client:
        large, small = await client.answers(call(1, tag, values), call(2, *columns(1)))
    np.testing.assert_array_equal(tag, numbers(large.outputs.tensors[0]))
    assert not small.HasField("failure")
