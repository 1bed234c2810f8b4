"""The one place where a gRPC status becomes an error of ours."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn, cast

import grpc
from google.rpc import error_details_pb2, status_pb2

from bettong._errors import (
    BettongError,
    ConflictError,
    DeadlineError,
    InvalidInputError,
    NoSpaceError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ServerError,
)

_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "x-request-id"

_ERROR_BY_STATUS: Mapping[grpc.StatusCode, Callable[[str], BettongError]] = {
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.CANCELLED: ServerError,
    grpc.StatusCode.DATA_LOSS: ServerError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.FAILED_PRECONDITION: ConflictError,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInputError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: NotReadyError,
    grpc.StatusCode.UNIMPLEMENTED: ServerError,
    grpc.StatusCode.UNKNOWN: ServerError,
}


@contextlib.contextmanager
def translated(unreachable: Callable[[str], BettongError] = NotReadyError) -> Iterator[None]:
    """Turn what a call inside the block fails with into an error of ours.

    Args:
        unreachable: Makes the error for a call that reached no server, from what gRPC says.
    """
    try:
        yield
    except grpc.RpcError as error:
        call = cast("grpc.Call", error)
        if call.code() is grpc.StatusCode.UNAVAILABLE and not _has_reached_a_server(call):
            raise unreachable(call.details() or call.code().name) from error
        _raise_translated(call, error)


def _has_reached_a_server(call: grpc.Call) -> bool:
    """Return whether a server of ours has refused the call: each of its answers has the id of the request."""
    return any(key == _REQUEST_ID_KEY for key, _ in call.trailing_metadata() or ())


def error_of_status(code: grpc.StatusCode, message: str, details: bytes = b"") -> BettongError:
    """Build the error for a status; *details* is a serialized `google.rpc.Status`, if the server sent one."""
    reason, field, retry_after_s = _read_details(details)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInputError(message, field=field)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # One status stands for "later" and for "no room"; only the reason tells them apart.
        return NoSpaceError(message) if reason == "NO_SPACE" else OverloadedError(message, retry_after_s=retry_after_s)
    return _ERROR_BY_STATUS.get(code, ServerError)(message)


def _raise_translated(call: grpc.Call, cause: grpc.RpcError) -> NoReturn:
    trailers = dict(call.trailing_metadata() or ())
    details = trailers.get(_DETAILS_KEY, b"")
    message = call.details() or call.code().name
    raise error_of_status(call.code(), message, details if isinstance(details, bytes) else b"") from cause


def _read_details(details: bytes) -> tuple[str, str | None, float | None]:
    """Return the reason, the first field that is wrong, and the seconds to wait."""
    reason, field, retry_after_s = "", None, None
    for detail in status_pb2.Status.FromString(details).details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return reason, field, retry_after_s
