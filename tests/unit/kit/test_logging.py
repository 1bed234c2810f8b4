"""Log lines: what they carry and who sees them."""

import io
import json
from collections.abc import Iterator

import pytest
from structlog.contextvars import bound_contextvars

from bettong_kit.errors import InvalidArgumentError
from bettong_kit.logging import configure_logging, get_logger, log_level, set_log_level


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Catch what is logged."""
    caught = io.StringIO()
    configure_logging(level="info", style="json", stream=caught)
    yield caught
    configure_logging()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_event_with_values(stream: io.StringIO) -> None:
    """A machine reads the event, its values, level, time and origin."""
    get_logger("part").bind(model="m").info("loaded", rows=3)
    (line,) = _lines(stream)
    assert line.pop("timestamp")
    assert line == {"event": "loaded", "rows": 3, "model": "m", "component": "part", "level": "info"}


def test_what_is_bound_to_the_context_is_in_every_line(stream: io.StringIO) -> None:
    """The request id does not have to be passed along."""
    with bound_contextvars(request_id="r1"):
        get_logger("part").info("one")
    get_logger("part").info("two")
    assert [line.get("request_id") for line in _lines(stream)] == ["r1", None]


def test_the_level_can_be_changed_while_running(stream: io.StringIO) -> None:
    """An operator turns debugging on without a restart; loggers that exist follow."""
    log = get_logger("part")
    log.debug("hidden")
    assert (set_log_level("debug"), log_level()) == ("info", "debug")
    log.debug("shown")
    assert [line["event"] for line in _lines(stream)] == ["shown"]


def test_an_unknown_level_is_refused() -> None:
    """The message says what is known."""
    with pytest.raises(InvalidArgumentError, match="'loud' is unknown; expected one of debug, info, warning, error"):
        set_log_level("loud")


def test_an_error_has_its_traceback_as_text(stream: io.StringIO) -> None:
    """One line stays one line."""
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("part").exception("failed")
    (line,) = _lines(stream)
    assert "ValueError: broken" in str(line["exception"])


def test_a_terminal_gets_columns() -> None:
    """A person is not shown JSON."""
    terminal = _Terminal()
    configure_logging(stream=terminal)
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("part").exception("failed")
    finally:
        configure_logging()
    text = terminal.getvalue()
    assert "failed" in text
    assert "ValueError: broken" in text
    assert not text.startswith("{")
