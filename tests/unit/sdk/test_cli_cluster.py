"""What the commands about a cluster print."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bettong._cli import main
from bettong._cli.members import as_json, as_text, size_text
from bettong._cli.session import Session
from bettong._cli.status import _deployments_text
from bettong._cli.watching import show_watched
from bettong._errors import UnreachableError
from bettong._members import Member, Members

EXECUTOR = Member(
    role="executor",
    name="executor-1",
    address="h:1",
    control_address="",
    version="0.1.0",
    epoch=7,
    draining=False,
    lanes=2,
    memory_bytes=3 << 30,
    ready=4,
    loading=1,
    failed=0,
    outstanding=5,
    waiting_rows=6,
    error="",
)


def test_members_are_a_table() -> None:
    """One line each, under what their cluster is called."""
    title, names, row = as_text(Members("c", (EXECUTOR,), None, "")).splitlines()
    assert title == "cluster c, 1 member"
    assert names.split() == [
        "ROLE",
        "NAME",
        "ADDRESS",
        "VERSION",
        "LANES",
        "MEMORY",
        *["READY", "LOADING", "FAILED"],
        "OPEN",
        "WAITING",
        "STATE",
    ]
    assert row.split() == [
        "executor",
        "executor-1",
        "h:1",
        "0.1.0",
        "2",
        "3",
        "GiB",
        "4",
        "1",
        "0",
        "5",
        "6",
        "serving",
    ]
    assert as_text(Members("", (EXECUTOR,), None, "")).startswith("one process\n")


def test_etcd_that_is_away_is_told_before_what_is_old() -> None:
    """With since when and why; programs read the same."""
    since = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    found = Members("c", (EXECUTOR, EXECUTOR), since, "no answer")
    assert as_text(found).splitlines()[1] == (
        "etcd does not answer since 2026-01-02T03:04:05+00:00: no answer; changes wait, what is below is from before"
    )
    assert json.loads(json.dumps(as_json(found)))["etcd_lost_since"] == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize(("count", "text"), [(None, None), (0, "0 B"), (1536, "1.5 KiB"), (1 << 60, "1.05e+06 TiB")])
def test_bytes_are_told_with_a_unit(count: int | None, text: str | None) -> None:
    """What was not told stays unknown."""
    assert size_text(count) == text


def test_what_is_ready_where_stands_below_what_is_deployed() -> None:
    """With why something is not; one process has no such table."""
    found = {"pipeline": "p", "version": 2, "serving": 1, "state": "Starting", "reason": "loading", "replicas": []}
    replica = {"member": "executor-1", "version": 2, "state": "Loading", "reason": "40 %"}
    assert len(_deployments_text([found])) == 1
    table, _, replicas = _deployments_text([found | {"replicas": [replica]}])
    assert "REPLICAS" not in table
    assert replicas.splitlines()[1].split() == ["p", "executor-1", "2", "Loading", "40", "%"]
    assert _deployments_text([]) == ["nothing is deployed"]


def test_watching_goes_on_when_the_server_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    """Until somebody ends it; only the first look must succeed."""
    looks: Iterator[str | BaseException] = iter(["one", UnreachableError("nobody listens"), "two", KeyboardInterrupt()])

    def look() -> tuple[object, str]:
        found = next(looks)
        if isinstance(found, BaseException):
            raise found
        return {}, found

    with pytest.raises(KeyboardInterrupt):
        show_watched(Session(), look, watch=True, interval=0.001)
    assert capsys.readouterr().out.splitlines() == ["one", "bettong: nobody listens", "two"]
    show_watched(Session(), lambda: (1, "once"), watch=False, interval=1)
    assert capsys.readouterr().out == "once\n"


@pytest.mark.parametrize(
    "command", [["kill", "a"], ["stop", "a"], ["pause", "a"], ["resume", "a"], ["start", "a"], ["status"]]
)
def test_no_cluster_is_one_line(tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Which says how to start one."""
    assert main(["cluster", *command, "--data", str(tmp_path)]) == 1
    assert "bettong cluster up --data" in capsys.readouterr().err
