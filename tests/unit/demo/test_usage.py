"""What is there to be pasted."""

import json
import shlex

from bettong._demo.usage import Usage

USAGE = Usage(
    url="http://127.0.0.1:8080",
    control_address="127.0.0.1:8081",
    metrics_address="127.0.0.1:8082",
    pipeline="fraud",
    record={"amount_eur": 12.5, "hour": 3.25},
)


def test_the_curl_line_is_one_command() -> None:
    """A shell reads it as one command with the body as one argument."""
    command = shlex.split(USAGE.curl())
    assert command[0] == "curl"
    assert "\n" not in USAGE.curl()
    assert json.loads(command[-1]) == [{"amount_eur": 12.5, "hour": 3.25}]


def test_the_snippet_is_five_lines_of_python() -> None:
    """It compiles, and is as short as promised."""
    assert len(USAGE.snippet().splitlines()) == 5
    compile(USAGE.snippet(), "snippet", "exec")


def test_the_text_has_every_address() -> None:
    """A reader finds the three ports, and lines to paste that begin at the left edge."""
    lines = USAGE.text().splitlines()
    assert lines[0] == "data http://127.0.0.1:8080 · control 127.0.0.1:8081 · metrics http://127.0.0.1:8082/metrics"
    assert USAGE.curl() in lines
    assert set(USAGE.snippet().splitlines()) <= set(lines)
