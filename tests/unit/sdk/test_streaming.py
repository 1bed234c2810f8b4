"""Events in order, with a bound."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from bettong._streaming import in_order, in_order_async


class Gate:
    """Lets each event through when the test says so, and counts."""

    def __init__(self) -> None:
        self.open = {number: threading.Event() for number in range(100)}
        self.began: list[int] = []

    def __call__(self, number: int) -> int:
        """Wait for the test."""
        self.began.append(number)
        assert self.open[number].wait(10)
        return number * 10


def each(run: Callable[[int], int]) -> Callable[[list[int]], list[int]]:
    """Run each event of a batch."""
    return lambda numbers: [run(number) for number in numbers]


def same(numbers: list[int]) -> list[int]:
    """Answer events with themselves."""
    return numbers


def test_results_come_in_the_order_of_the_events() -> None:
    """An event that is done early waits for those before it."""
    gate = Gate()
    results = in_order(each(gate), range(3), max_in_flight=3)
    gate.open[2].set()
    gate.open[1].set()
    threading.Timer(0.01, gate.open[0].set).start()
    assert list(results) == [0, 10, 20]


def test_source_is_read_only_as_far_as_there_is_room() -> None:
    """Events taken and not yet yielded never exceed the bound, however fast the source is."""
    taken: list[int] = []
    done = 0
    most = 0

    def source() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for _ in in_order(same, source(), max_in_flight=4):
        most = max(most, len(taken) - done)
        done += 1
    assert done == 50
    assert most <= 4


def test_result_does_not_wait_for_the_next_event() -> None:
    """A reply is there as soon as it is done, while the source still waits for its next event."""
    got_first = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        assert got_first.wait(10)
        yield 2

    results = in_order(same, source(), max_in_flight=4)
    assert next(results) == 1
    got_first.set()
    assert list(results) == [2]


def test_leaving_early_stops_the_source() -> None:
    """A reader that leaves takes no more than what is in flight."""
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1_000):
            taken.append(number)
            yield number

    results = in_order(same, source(), max_in_flight=4)
    assert next(results) == 0
    results.close()
    assert len(taken) <= 6


def test_error_of_the_source_arrives_after_the_results_before_it() -> None:
    """What was taken is answered; then the source's own error is raised."""

    def source() -> Iterator[int]:
        yield 1
        raise KeyError("broken source")

    results = in_order(same, source(), max_in_flight=4)
    assert next(results) == 1
    with pytest.raises(KeyError, match="broken source"):
        next(results)


def test_error_of_an_event_ends_the_stream() -> None:
    """An event that fails raises in its place."""
    results = in_order(each(lambda number: 1 // number), [1, 0, 1], max_in_flight=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_waits_is_run_together() -> None:
    """While every thread is busy events gather, and the next free thread takes them all."""
    sizes: list[int] = []
    all_taken = threading.Event()

    def source() -> Iterator[int]:
        yield from range(20)
        all_taken.set()

    def run_many(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        assert all_taken.wait(10)
        return numbers

    assert list(in_order(run_many, source(), max_in_flight=32)) == list(range(20))
    assert sum(sizes) == 20
    assert max(sizes) >= 10


async def _numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@pytest.mark.parametrize("is_async", [True, False])
async def test_async_results_come_in_order(*, is_async: bool) -> None:
    """On an event loop, sources of both kinds are read and answered in order."""
    source = _numbers(50) if is_async else range(50)
    assert [result async for result in in_order_async(each(lambda number: number * 2), source, max_in_flight=8)] == [
        number * 2 for number in range(50)
    ]


async def test_async_source_is_read_only_as_far_as_there_is_room() -> None:
    """The bound holds on an event loop, too; one event may be waiting at the door."""
    taken = 0

    async def source() -> AsyncIterator[int]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    done = 0
    async for _ in in_order_async(same, source(), max_in_flight=4):
        assert taken - done <= 5
        done += 1
    assert done == 50


async def test_async_errors_arrive() -> None:
    """Errors of the source and of an event are raised to the reader."""

    async def source() -> AsyncIterator[int]:
        yield 1
        raise KeyError("broken source")

    results = in_order_async(same, source(), max_in_flight=2)
    assert await anext(results) == 1
    with pytest.raises(KeyError, match="broken source"):
        await anext(results)
    with pytest.raises(ZeroDivisionError):
        await anext(in_order_async(each(lambda number: 1 // number), [0], max_in_flight=2))
