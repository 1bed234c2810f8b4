"""The three tables from the outside to errors of ours."""

import json

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import bettong
from bettong._engine_errors import error_of_code
from bettong._grpc_errors import error_of_status
from bettong._http_errors import error_of_reply

HTTP_ERRORS = {
    400: bettong.InvalidInputError,
    404: bettong.NotFoundError,
    413: bettong.InvalidInputError,
    415: bettong.InvalidInputError,
    429: bettong.OverloadedError,
    500: bettong.ServerError,
    502: bettong.ServerError,
    503: bettong.NotReadyError,
    504: bettong.DeadlineError,
}


@pytest.mark.parametrize(("status", "kind"), HTTP_ERRORS.items())
def test_http_status_becomes_an_error(status: int, kind: type[Exception]) -> None:
    """Each status has one error, with the server's own words."""
    body = json.dumps({"error": "the reason", "code": status, "status": "error", "source": "engine"}).encode()
    error = error_of_reply(status, {}, body)
    assert type(error) is kind
    assert str(error) == "the reason"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff\xfe", b"<html>no</html>"])
def test_http_error_without_our_body_still_says_something(body: bytes) -> None:
    """A reply of something else between client and server gives a message, too."""
    assert str(error_of_reply(502, {}, body))


@pytest.mark.parametrize(
    ("header", "expected"), [("1.5", 1.5), ("0", 0.0), ("Wed, 21 Oct 2026", None), ("-1", None), ("inf", None)]
)
def test_retry_after_is_read(header: str, expected: float | None) -> None:
    """Seconds are understood; a date or nonsense is as if it were absent."""
    error = error_of_reply(429, {"retry-after": header}, b"{}")
    assert isinstance(error, bettong.OverloadedError)
    assert error.retry_after_s == expected


def test_field_and_row_are_kept() -> None:
    """Where the server names the field and the row, the error has them."""
    error = error_of_reply(400, {}, b'{"error": "bad", "field": "x", "row": 3}')
    assert isinstance(error, bettong.InvalidInputError)
    assert (error.field, error.row) == ("x", 3)


GRPC_ERRORS = {
    grpc.StatusCode.INVALID_ARGUMENT: bettong.InvalidInputError,
    grpc.StatusCode.NOT_FOUND: bettong.NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: bettong.ConflictError,
    grpc.StatusCode.ABORTED: bettong.ConflictError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: bettong.OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: bettong.DeadlineError,
    grpc.StatusCode.UNAVAILABLE: bettong.NotReadyError,
    grpc.StatusCode.INTERNAL: bettong.ServerError,
    grpc.StatusCode.DATA_LOSS: bettong.ServerError,
}


@pytest.mark.parametrize(("code", "kind"), GRPC_ERRORS.items())
def test_grpc_status_becomes_an_error(code: grpc.StatusCode, kind: type[Exception]) -> None:
    """Each status that the control plane sends has one error."""
    error = error_of_status(code, "the reason")
    assert type(error) is kind
    assert str(error) == "the reason"


def test_every_grpc_status_is_an_error_of_ours() -> None:
    """No status, known or new, comes out as something else."""
    for code in grpc.StatusCode:
        assert isinstance(error_of_status(code, "x"), bettong.BettongError)


def _details(*messages: Message) -> bytes:
    status = status_pb2.Status()
    for message in messages:
        packed = any_pb2.Any()
        packed.Pack(message)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def test_grpc_details_tell_the_field_and_the_time_to_wait() -> None:
    """What the server attaches is what the error carries."""
    violation = error_details_pb2.BadRequest.FieldViolation(field="name", description="bad")
    bad = _details(error_details_pb2.BadRequest(field_violations=[violation]))
    error = error_of_status(grpc.StatusCode.INVALID_ARGUMENT, "x", bad)
    assert isinstance(error, bettong.InvalidInputError)
    assert error.field == "name"
    retry = _details(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000)))
    later = error_of_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "x", retry)
    assert isinstance(later, bettong.OverloadedError)
    assert later.retry_after_s == 0.25


def test_no_space_is_told_from_overload() -> None:
    """One status stands for both; the reason tells them apart, and only one of them is worth trying again."""
    details = _details(error_details_pb2.ErrorInfo(reason="NO_SPACE", domain="bettong"))
    assert type(error_of_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "x", details)) is bettong.NoSpaceError


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", bettong.InvalidInputError),
        ("UNAVAILABLE", bettong.NotReadyError),
        ("INTERNAL", bettong.ServerError),
        ("NEW", bettong.ServerError),
    ],
)
def test_engine_code_becomes_an_error(code: str, kind: type[Exception]) -> None:
    """The engine in this process speaks in the same errors as the one behind a server."""
    assert type(error_of_code(code, "x")) is kind
