"""What a local cluster is made of: its plan, its etcd, its screen and the status that it leaves."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bettong._cluster import etcd
from bettong._cluster.plan import ClusterPlan, free_ports
from bettong._cluster.screen import Screen, readable, showing
from bettong._cluster.state import (
    ChildStatus,
    ClusterStatus,
    ask_to_start,
    read_status,
    signal_member,
    take_wanted,
    until_ended,
    write_status,
)
from bettong_kit.errors import BettongError, ConfigError, NotFoundError, StartError, UnavailableError
from bettong_serving.data_folder import locked_data_folder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gateways": 0}, "--gateways must be between 1 and 64, got 0"),
        ({"executors": 65}, "--executors must be between 1 and 64, got 65"),
        ({"port": 65_534}, "--port must leave 3 ports up to 65535, got 65534"),
        ({"port": 65_530, "gateways": 2}, "--port must leave 13 ports up to 65535, got 65530"),
        ({"drain_timeout_s": 0}, "--drain-timeout-s must be more than 0, got 0"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(values: dict[str, int], message: str) -> None:
    """By the flag, before anything starts."""
    with pytest.raises(ConfigError, match=message):
        ClusterPlan(**values)  # type: ignore[arg-type]


def test_gateways_stand_ten_ports_apart_unless_any_will_do() -> None:
    """Each has three: data, control, metrics."""
    with contextlib.suppress(BettongError):
        assert ClusterPlan(gateways=2, port=38_400).gateway_ports() == [
            (38_400, 38_401, 38_402),
            (38_410, 38_411, 38_412),
        ]
    ports = [port for each in ClusterPlan(gateways=3, port=0).gateway_ports() for port in each]
    assert len(set(ports)) == 9


def test_ports_of_members_are_none_that_a_connection_is_given() -> None:
    """A gateway that was killed comes back to its port: nobody may have got it meanwhile."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in free_ports("127.0.0.1", 50) if first <= port <= last]


def test_a_taken_port_is_named() -> None:
    """Before anything starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}"):
            ClusterPlan(port=port).gateway_ports()


def test_members_are_told_all_by_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are words of their command lines; variables that mean one process do not reach them, others do."""
    for name in ("BETTONG_CONFIG", "BETTONG_ETCD_USER", "BETTONG_MAX_IN_FLIGHT"):
        monkeypatch.setenv(name, "7")
    plan = ClusterPlan(gateways=1, routers=1, executors=2, data=tmp_path)
    members = plan.members("127.0.0.1:5", [(8080, 8081, 8082)], program=["b"])
    assert list(members) == ["executor", "router", "gateway"]
    second = members["executor"][1]
    line = " ".join(second.command)
    assert line.startswith("b executor --cluster local --etcd 127.0.0.1:5 --blobs file:///")
    assert f"--port 0 --cache {tmp_path}/cache --memory-bytes " in line
    assert line.endswith(f"--name executor-2 --data {tmp_path}/executor-2")
    assert "--port 8080 --control-port 8081 --metrics-port 8082" in " ".join(members["gateway"][0].command)
    assert second.log == tmp_path / "logs" / "executor-2.log"
    assert "BETTONG_MAX_IN_FLIGHT" in second.environment
    assert not {"BETTONG_CONFIG", "BETTONG_ETCD_USER"} & second.environment.keys()


def _program(folder: Path, text: str, name: str = "etcd") -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_etcd_is_found_on_the_path(tmp_path: Path) -> None:
    """If it is new enough to be trusted."""
    program = _program(tmp_path / "new", "echo etcd Version: 3.5.9")
    assert etcd.find_etcd(path=str(tmp_path / "new")) == program
    _program(tmp_path / "old", "echo etcd Version: 3.3.1")
    with pytest.raises(StartError, match="is etcd 3.3.1, too old; install it"):
        etcd.find_etcd(path=str(tmp_path / "old"))
    _program(tmp_path / "other", "echo hello")
    with pytest.raises(StartError, match="is not etcd: 'hello"):
        etcd.find_etcd(path=str(tmp_path / "other"))


def test_a_missing_etcd_is_named_with_the_ways_to_get_it(tmp_path: Path) -> None:
    """The system's package, or our own build."""
    with pytest.raises(StartError, match=r"apt-get install etcd-server.*--build-etcd"):
        etcd.find_etcd(path=str(tmp_path))


def test_versions_that_lose_data_are_known() -> None:
    """Three of 3.5."""
    versions = [(3, 4, 23), (3, 5, 0), (3, 5, 2), (3, 5, 3), (3, 6, 0)]
    assert [etcd.may_lose_data(version) for version in versions] == [False, True, True, False, False]


def test_etcd_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the cache, with whatever Go is there; an error of the build is one line."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'go'}:{os.environ['PATH']}")
    _program(tmp_path / "go", 'echo "no network" >&2; exit 1', "go")
    said: list[str] = []
    with pytest.raises(StartError, match="etcd cannot be built: no network"):
        etcd.build_etcd(said.append)
    # `go build -trimpath -ldflags "…" -o FILE .`
    _program(tmp_path / "go", 'cp "$0" "$6"', "go")
    program = etcd.build_etcd(said.append)
    assert program.is_relative_to(tmp_path / "cache")
    assert etcd.build_etcd(said.append) == program
    assert len(said) == 2


def test_lines_stand_behind_their_names() -> None:
    """Plain where nobody looks, coloured and shortened on a terminal."""
    line = '{"event": "ready", "level": "info", "timestamp": "2026-01-02T03:04:05Z", "component": "c", "n": 1}'
    for is_terminal, expected in (
        (False, f"executor-1 | {line}\netcd       | plain\n"),
        (True, "\033[36mexecutor-1 |\033[0m 03:04:05 info    ready n=1\n\033[33metcd       |\033[0m plain\n"),
    ):
        stream = io.StringIO()
        screen = Screen(stream, width=10, is_terminal=is_terminal)
        screen.show("executor-1", line)
        screen.show("etcd", "plain")
        screen.end()
        screen.run()
        assert stream.getvalue() == expected


@pytest.mark.parametrize("line", ["text", "{not json}", "[1]", '{"a": 1}', ""])
def test_lines_of_any_form_are_shown(line: str) -> None:
    """As they are."""
    assert readable(line) == line


class Blocked(io.StringIO):
    """A terminal that takes nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.released.wait()
        return super().write(text)


def test_a_terminal_that_takes_nothing_holds_nobody_up() -> None:
    """Lines are dropped, which is told later."""
    stream = Blocked()
    with showing(stream, 1) as screen:
        for _ in range(20_000):
            screen.show("a", "line")
        stream.released.set()
    assert "lines were not shown" in stream.getvalue()


def test_a_reader_that_has_enough_ends_nothing() -> None:
    """As in `bettong cluster up 2>&1 | head`."""
    stream = io.StringIO()
    stream.close()
    screen = Screen(stream, width=1, is_terminal=False)
    screen.show("a", "line")
    screen.end()
    screen.run()


STATUS = ClusterStatus(
    os.getpid(),
    "http://h:1",
    "h:2",
    (ChildStatus("executor-1", "executor", "ready", None, "h:3", 0),),
)


def test_a_folder_without_a_cluster_says_so(tmp_path: Path) -> None:
    """Whatever an earlier one left there."""
    with pytest.raises(NotFoundError, match="no cluster runs in .*bettong cluster up"):
        read_status(tmp_path)
    with locked_data_folder(tmp_path):
        with pytest.raises(NotFoundError, match="has not begun yet"):
            read_status(tmp_path)
        write_status(tmp_path, STATUS)
        assert read_status(tmp_path) == STATUS
    with pytest.raises(NotFoundError, match="no cluster runs"):
        read_status(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_members_are_signalled_by_name(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """A paused one is shown as that; the wrong name or one without a process is refused."""
    status = ClusterStatus(1, "u", "e", (ChildStatus("a", "executor", "ready", sleeper.pid, "", 0), *STATUS.members))
    with locked_data_folder(tmp_path):
        write_status(tmp_path, status)
        assert signal_member(status, "a", signal.SIGSTOP) == sleeper.pid
        os.waitpid(sleeper.pid, os.WUNTRACED)
        assert read_status(tmp_path).find("a").state == "paused"
    with pytest.raises(NotFoundError, match="no 'b'; it has: a, executor-1"):
        signal_member(status, "b", signal.SIGKILL)
    with pytest.raises(UnavailableError, match="executor-1 has no process at the moment; it is ready"):
        signal_member(status, "executor-1", signal.SIGKILL)
    with pytest.raises(UnavailableError, match=f"a runs as process {sleeper.pid}"):
        ask_to_start(tmp_path, status, "a")
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(UnavailableError, match="a has just ended"):
        signal_member(status, "a", signal.SIGKILL)


def test_the_end_of_a_process_is_waited_for(tmp_path: Path) -> None:
    """Until the supervisor has written that it is gone."""
    status = ClusterStatus(1, "u", "e", (ChildStatus("a", "executor", "ready", os.getpid(), "", 0),))
    with locked_data_folder(tmp_path):
        write_status(tmp_path, status)
        writer = threading.Timer(0.02, write_status, (tmp_path, replace(status, members=_without_process(status))))
        writer.start()
        until_ended(tmp_path, "a", os.getpid())
        writer.join()


def _without_process(status: ClusterStatus) -> tuple[ChildStatus, ...]:
    return tuple(replace(member, pid=None) for member in status.members)


def test_a_supervisor_is_asked_to_start_a_member(tmp_path: Path) -> None:
    """By a signal and a name beside it, which is taken once."""
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        ask_to_start(tmp_path, STATUS, "executor-1")
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert [take_wanted(tmp_path), take_wanted(tmp_path)] == ["executor-1", ""]
