"""The one place where an error of the engine in this process becomes one of ours."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from bettong._errors import (
    BettongError,
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ServerError,
)
from bettong_engine import EngineError

_ERROR_BY_CODE: Mapping[str, Callable[[str], BettongError]] = {
    "DEADLINE_EXCEEDED": DeadlineError,
    "INVALID_ARGUMENT": InvalidInputError,
    "NOT_FOUND": NotFoundError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNAVAILABLE": NotReadyError,
}


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the engine raises inside the block into an error of ours."""
    try:
        yield
    except EngineError as error:
        raise error_of_code(error.code, str(error)) from error


def error_of_code(code: str, message: str) -> BettongError:
    """Build the error for the name of a status."""
    return _ERROR_BY_CODE.get(code, ServerError)(message)
