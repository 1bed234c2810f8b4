"""Looking again and again."""

import json

import pytest

import bettong
from bettong._cli.session import Session
from bettong._cli.watching import show_watched


def test_a_server_that_dies_is_told_in_one_line_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever watches sees that it is gone, and when it is back."""
    looks = iter(["first", None, "back"])

    def look() -> tuple[object, str]:
        found = next(looks)
        if found is None:
            raise bettong.UnreachableError("nobody listens at http://h:1")
        return {"word": found}, found

    with pytest.raises(StopIteration):
        show_watched(Session(), look, watch=True, interval=0.001)
    assert capsys.readouterr().out.splitlines() == ["first", "bettong: nobody listens at http://h:1", "back"]


def test_programs_read_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Each look is one object, with or without a server."""
    looks = iter(["first", None])

    def look() -> tuple[object, str]:
        found = next(looks)
        if found is None:
            raise bettong.UnreachableError("nobody listens at http://h:1")
        return {"word": found}, found

    with pytest.raises(StopIteration):
        show_watched(Session(output="json"), look, watch=True, interval=0.001)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"word": "first"}, {"error": "nobody listens at http://h:1"}]
