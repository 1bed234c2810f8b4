"""The error tree and its one table."""

import inspect
import re

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import bettong_kit.errors
from bettong_kit.errors import BettongError, ErrorCode, InvalidArgumentError, NotFoundError, OverloadedError
from bettong_kit.rpc import STATUS_BY_CODE, details_of, status_of


def _subclasses(kind: type[BettongError]) -> list[type[BettongError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _subclasses(child))]


def test_every_code_has_a_status() -> None:
    """No error can reach the edge without a gRPC status."""
    assert set(STATUS_BY_CODE) == set(ErrorCode)


@pytest.mark.parametrize("kind", _subclasses(BettongError), ids=lambda kind: kind.__name__)
def test_every_error_is_mapped_and_drawn(kind: type[BettongError]) -> None:
    """Each subclass has a status and a place in the drawing of the tree."""
    assert isinstance(status_of(kind("why")), grpc.StatusCode)
    assert re.search(rf"\b{kind.__name__}\b", bettong_kit.errors.__doc__ or "")


def test_the_drawing_names_only_what_exists() -> None:
    """A class that was removed leaves the drawing too."""
    drawn = set(re.findall(r"\b\w+Error\b", bettong_kit.errors.__doc__ or ""))
    defined = {name for name, _ in inspect.getmembers(bettong_kit.errors, inspect.isclass) if name.endswith("Error")}
    assert drawn == defined


def _details(error: BettongError) -> tuple[status_pb2.Status, list[any_pb2.Any]]:
    status = status_pb2.Status.FromString(details_of(error))
    return status, list(status.details)


def test_details_name_the_kind_of_error() -> None:
    """A client can tell errors apart without reading messages."""
    status, (packed,) = _details(NotFoundError("no model 'm'"))
    reason = error_details_pb2.ErrorInfo()
    assert packed.Unpack(reason)
    assert (status.code, status.message, reason.reason) == (5, "no model 'm'", "NOT_FOUND")


def test_details_name_the_wrong_fields() -> None:
    """A refused request says which field was wrong and what was expected."""
    _, (_, packed) = _details(InvalidArgumentError("bad", fields={"name": "too long"}))
    bad = error_details_pb2.BadRequest()
    assert packed.Unpack(bad)
    assert [(found.field, found.description) for found in bad.field_violations] == [("name", "too long")]


def test_details_say_when_to_try_again() -> None:
    """An overload that knows when it ends says so in the way that clients understand."""
    _, (_, packed) = _details(OverloadedError("full", retry_after_s=1.5))
    retry = error_details_pb2.RetryInfo()
    assert packed.Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500
