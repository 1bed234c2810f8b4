"""Trying again."""

import pytest

import bettong
from bettong._retry import Attempts, Clock, with_retries, with_retries_async


class ManualClock(Clock):
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waits_s: list[float] = []

    def monotonic_s(self) -> float:
        """Return the time."""
        return self.now_s

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.waits_s.append(seconds)
        self.now_s += seconds


class Server:
    """Fails with each of the errors in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.times_left_s: list[float] = []

    def __call__(self, left_s: float) -> str:
        """Answer one request."""
        self.times_left_s.append(left_s)
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_answers_after_refusals() -> None:
    """A refusal that may pass is tried again, with the time that is left."""
    clock, server = ManualClock(), Server(bettong.NotReadyError("x"), bettong.OverloadedError("x"))
    assert with_retries(server, Attempts(15, clock=clock)) == "answer"
    assert server.times_left_s == [pytest.approx(15 - sum(clock.waits_s[:n])) for n in range(3)]


def test_waits_as_long_as_the_server_asks() -> None:
    """`Retry-After` is honoured, with a little jitter so that clients do not come back together."""
    clock = ManualClock()
    with_retries(Server(bettong.OverloadedError("x", retry_after_s=1.5)), Attempts(15, clock=clock))
    assert 1.5 <= clock.waits_s[0] < 1.6


def test_gives_up_rather_than_wait_past_the_deadline() -> None:
    """When the server asks for more time than is left, the refusal is the answer, at once."""
    clock = ManualClock()
    with pytest.raises(bettong.OverloadedError):
        with_retries(Server(bettong.OverloadedError("x", retry_after_s=20)), Attempts(15, clock=clock))
    assert clock.waits_s == []


def test_gives_up_after_the_tries() -> None:
    """`retries` bounds the tries after the first."""
    server = Server(*(bettong.NotReadyError(str(n)) for n in range(9)))
    with pytest.raises(bettong.NotReadyError, match="2"):
        with_retries(server, Attempts(15, 2, ManualClock()))


def test_waits_are_bounded() -> None:
    """The wait grows to a bound and never beyond."""
    clock = ManualClock()
    with pytest.raises(bettong.NotReadyError):
        with_retries(Server(*(bettong.NotReadyError("x") for _ in range(99))), Attempts(1000, 50, clock))
    assert len(clock.waits_s) == 50
    assert max(clock.waits_s) <= 2.0


@pytest.mark.parametrize(
    "error",
    [
        bettong.InvalidInputError("x"),
        bettong.NotFoundError("x"),
        bettong.DeadlineError("x"),
        bettong.UnreachableError("x"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(error: Exception) -> None:
    """A mistake of the caller or a lost connection is raised at once."""
    server = Server(error)
    with pytest.raises(type(error)):
        with_retries(server, Attempts(15, clock=ManualClock()))
    assert len(server.times_left_s) == 1


def test_the_time_that_was_given_and_the_refusal_are_told() -> None:
    """A last try that has only moments does not hide why the tries before it were refused."""
    server = Server(bettong.NotReadyError("nobody runs it"), bettong.DeadlineError("no answer within 0.003 s"))
    with pytest.raises(bettong.DeadlineError, match=r"^no answer within 15 s; .* nobody runs it$"):
        with_retries(server, Attempts(15, clock=ManualClock()))


async def test_async_tries_again_as_well() -> None:
    """On an event loop the same rules hold."""
    server = Server(bettong.NotReadyError("x"))

    async def call(left_s: float) -> str:
        return server(left_s)

    assert await with_retries_async(call, Attempts(15)) == "answer"
    with pytest.raises(bettong.NotReadyError):
        await with_retries_async(call_failing, Attempts(15, 0))


async def call_failing(left_s: float) -> str:
    """Refuse."""
    raise bettong.NotReadyError(str(left_s))
