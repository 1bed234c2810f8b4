"""Every error that the SDK raises on purpose.

::

    BettongError
    ├── InvalidInputError   (ValueError)       what was given is wrong; names the field and the row if they are known
    ├── NotFoundError       (LookupError)      no such model, pipeline, version or deployment
    ├── ConflictError                          something else depends on it, or changed it first
    ├── NotReadyError                          it exists, but does not serve now
    ├── OverloadedError                        a bound of the server is reached; has a time after which to try again
    ├── NoSpaceError                           the server's disk or a size limit is reached
    ├── DeadlineError       (TimeoutError)     no answer within the time that was given
    ├── UnreachableError    (ConnectionError)  nobody listens at the address, or the connection broke
    ├── StartError                             an embedded server cannot start
    └── ServerError                            the server failed; nothing that the caller can change

Two tables translate what arrives from outside, one for each protocol: `bettong._grpc_errors` and `bettong._http_errors`.
"""


class BettongError(Exception):
    """Base of all errors that are raised on purpose; the message is one line for people."""


class InvalidInputError(BettongError, ValueError):
    """The input or a setting is wrong and will be wrong again.

    Attributes:
        field: Column or setting that is wrong, if it is known.
        row: Row that is wrong, counted from 0, if it is known.
    """

    def __init__(self, message: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.row = row


class NotFoundError(BettongError, LookupError):
    """There is no such model, pipeline, version or deployment."""


class ConflictError(BettongError):
    """Something else depends on it, or changed it first."""


class NotReadyError(BettongError):
    """It exists, but does not serve now."""


class OverloadedError(BettongError):
    """A bound of the server is reached for the moment.

    Attributes:
        retry_after_s: Seconds after which the same request may succeed, if the server said so.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoSpaceError(BettongError):
    """The server's disk or a size limit is reached."""


class DeadlineError(BettongError, TimeoutError):
    """No answer came within the time that was given."""


class UnreachableError(BettongError, ConnectionError):
    """Nobody listens at the address, or the connection broke."""


class StartError(BettongError):
    """An embedded server cannot start; the message says what to do."""


class ServerError(BettongError):
    """The server failed at something that the caller cannot change."""


def missing_value(name: str, row: int, word: str = "null") -> InvalidInputError:
    """Build the error for a value that is not there, which is never taken for a number; *word* is what stands in its place."""
    return InvalidInputError(f"column '{name}', row {row}: a value is missing ({word})", field=name, row=row)
