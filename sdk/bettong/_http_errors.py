"""The one place where an HTTP reply becomes an error of ours."""

import json
from collections.abc import Callable, Mapping

from bettong._errors import (
    BettongError,
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ServerError,
)

_LONGEST_MESSAGE = 2_000

_ERROR_BY_STATUS: Mapping[int, Callable[[str], BettongError]] = {
    404: NotFoundError,
    408: DeadlineError,
    503: NotReadyError,
    504: DeadlineError,
}


def error_of_reply(status: int, headers: Mapping[str, str], body: bytes) -> BettongError:
    """Build the error that a reply with a status of 400 or more stands for; header names are in lower case."""
    details = _details(body)
    message = str(details.get("error") or f"the server answered with HTTP status {status}")
    if status == 429:  # noqa: PLR2004 - Too Many Requests
        return OverloadedError(message, retry_after_s=retry_after_s(headers))
    if status in _ERROR_BY_STATUS:
        return _ERROR_BY_STATUS[status](message)
    if status < 500:  # noqa: PLR2004 - the caller's mistakes end here
        return _invalid_input(message, details)
    return ServerError(message)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` asks for; None if it is absent, a date or nonsense."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _invalid_input(message: str, details: Mapping[str, object]) -> InvalidInputError:
    field, row = details.get("field"), details.get("row")
    return InvalidInputError(
        message, field=field if isinstance(field, str) else None, row=row if isinstance(row, int) else None
    )


def _details(body: bytes) -> Mapping[str, object]:
    try:
        details = json.loads(body)
    except ValueError:
        return {"error": body[:_LONGEST_MESSAGE].decode("utf-8", "replace").strip()}
    return details if isinstance(details, dict) else {}
