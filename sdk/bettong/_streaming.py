"""Events in, results out in the same order, with a bound on what is in between.

What waits while every thread is busy is run together, so that a fast source costs few requests and a slow one waits for
nothing.
"""

import asyncio
import itertools
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeAlias, TypeVar

EventT = TypeVar("EventT")
ResultT = TypeVar("ResultT")

RunMany: TypeAlias = Callable[[list[EventT]], list[ResultT]]

_MOST_THREADS = 4
"""Requests at once; more would take the interpreter from each other."""


def in_order(
    run_many: RunMany[EventT, ResultT], events: Iterable[EventT], *, max_in_flight: int
) -> Generator[ResultT, None, None]:
    """Run events on threads and yield the results in the order of the events.

    A result is yielded as soon as it and those before it are there, however long the next event takes to come. An event is
    taken only when there is room, so that neither what waits nor what is done can grow.
    """
    with ThreadPoolExecutor(_threads(max_in_flight), thread_name_prefix="bettong-stream") as pool:
        reader = _Reader(_Gatherer(run_many, pool), events, max_in_flight=max_in_flight)
        try:
            while (future := reader.submitted.get()) is not None:
                yield future.result()
                reader.room.release()
            reader.ended.result()
        finally:
            reader.stop()
            pool.shutdown(wait=True, cancel_futures=True)


class _Gatherer(Generic[EventT, ResultT]):
    """Gives each thread that becomes free all events that wait."""

    def __init__(self, run_many: RunMany[EventT, ResultT], pool: ThreadPoolExecutor) -> None:
        self._run_many = run_many
        self._pool = pool
        self._waiting: deque[tuple[EventT, Future[ResultT]]] = deque()
        """Bounded by those who submit."""

    def submit(self, event: EventT) -> Future[ResultT]:
        """Run an event on the next thread that is free."""
        future: Future[ResultT] = Future()
        self._waiting.append((event, future))
        # One turn for each event is more than are needed; a turn that finds nothing left does nothing.
        self._pool.submit(self._take_turn)
        return future

    def _take_turn(self) -> None:
        taken = self._take()
        if not taken:
            return
        try:
            results = self._run_many([event for event, _ in taken])
        except BaseException as error:  # noqa: BLE001 - top loop of a thread: the error belongs to those who wait
            for _, future in taken:
                future.set_exception(error)
            return
        for (_, future), result in zip(taken, results, strict=True):
            future.set_result(result)

    def _take(self) -> list[tuple[EventT, Future[ResultT]]]:
        taken: list[tuple[EventT, Future[ResultT]]] = []
        while True:
            try:
                entry = self._waiting.popleft()
            except IndexError:
                return taken
            if entry[1].set_running_or_notify_cancel():
                taken.append(entry)


class _Reader(Generic[EventT, ResultT]):
    """Takes events from a source that may block, on a thread of its own."""

    def __init__(self, gatherer: _Gatherer[EventT, ResultT], events: Iterable[EventT], *, max_in_flight: int) -> None:
        self.submitted: queue.SimpleQueue[Future[ResultT] | None] = queue.SimpleQueue()
        """Holds at most as many as there is room for; None at the end."""
        self.room = threading.Semaphore(max_in_flight)
        self.ended: Future[None] = Future()
        self._gatherer, self._events = gatherer, events
        self._stopped = threading.Event()
        # A source may block for ever; an interpreter that exits must not wait for it.
        threading.Thread(target=self._read_to_end, name="bettong-stream-source", daemon=True).start()

    def stop(self) -> None:
        """Take no further event."""
        self._stopped.set()
        self.room.release()

    def _read_to_end(self) -> None:
        try:
            self._read()
            self.ended.set_result(None)
        except BaseException as error:  # noqa: BLE001 - top loop of a thread: the error belongs to the one who reads the results
            self.ended.set_exception(error)
        finally:
            self.submitted.put(None)

    def _read(self) -> None:
        source = iter(self._events)
        while True:
            self.room.acquire()
            if self._stopped.is_set():
                return
            try:
                event = next(source)
            except StopIteration:
                return
            if self._stopped.is_set():
                return
            self.submitted.put(self._gatherer.submit(event))


async def in_order_async(
    run_many: RunMany[EventT, ResultT], events: AsyncIterable[EventT] | Iterable[EventT], *, max_in_flight: int
) -> AsyncGenerator[ResultT, None]:
    """Do what `in_order` does for a reader on an event loop.

    Cancellation:
        What runs on a thread runs to its end and is dropped; no further event is taken.
    """
    running: deque[asyncio.Future[ResultT]] = deque()
    pool = ThreadPoolExecutor(_threads(max_in_flight), thread_name_prefix="bettong-stream")
    gatherer = _Gatherer(run_many, pool)
    source = _as_async(events)
    # A future, because the next event and the oldest result are awaited together; cancelled below in any case.
    coming: asyncio.Future[list[EventT]] | None = asyncio.ensure_future(_next(source))
    last: asyncio.Future[list[EventT]] | None = None
    try:
        while coming is not None or running:
            wanted = coming if len(running) < max_in_flight else None
            waited: list[asyncio.Future[Any]] = [
                future for future in (wanted, *list(running)[:1]) if future is not None
            ]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if wanted is not None and wanted.done():
                if wanted.exception() is not None or not wanted.result():
                    coming, last = None, wanted
                else:
                    running.append(asyncio.wrap_future(gatherer.submit(wanted.result()[0])))
                    coming = asyncio.ensure_future(_next(source))
            if running and running[0].done():
                yield running.popleft().result()
        if last is not None:
            # An error of the source, which must not overtake the results before it.
            last.result()
    finally:
        if coming is not None:
            coming.cancel()
        for future in running:
            future.cancel()
        pool.shutdown(wait=False, cancel_futures=True)


def _threads(max_in_flight: int) -> int:
    return min(_MOST_THREADS, max_in_flight)


async def _next(source: AsyncIterator[EventT]) -> list[EventT]:
    """Return the next event, or nothing at the end."""
    async for event in source:
        return [event]
    return []


async def _as_async(events: AsyncIterable[EventT] | Iterable[EventT]) -> AsyncIterator[EventT]:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
        return
    source = iter(events)
    # A source that blocks must not block the loop.
    while taken := await asyncio.to_thread(lambda: list(itertools.islice(source, 1))):
        yield taken[0]
