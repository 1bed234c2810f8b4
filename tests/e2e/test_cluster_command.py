"""`bettong cluster up` and what is played with it, as the operator's guide says."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from docs.pages import ROOT, blocks
from fakes.etcd import etcd_program
from fakes.models import linear_model

import bettong

pytestmark = pytest.mark.e2e

BETTONG = str(Path(sys.executable).with_name("bettong"))
GUIDE = ROOT / "docs/guides/operate-a-cluster.md"
START_S = 90
STOP_S = 60
ROW = {"x": [1.0, 2.0, 3.0, 4.0]}


class Cluster:
    """A running cluster and what it printed when it was ready."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, welcome: list[str]) -> None:
        self.process = process
        self.folder = folder
        self.welcome = welcome
        found = re.search(r"Bettong is ready: (http://[\d.]+:\d+)", "\n".join(welcome))
        assert found, (welcome, log_of(folder))
        self.url = found[1]

    def ask(self, *arguments: str) -> Any:
        """Run a command that prints JSON."""
        command = [BETTONG, "--output", "json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=True)
        return json.loads(done.stdout)

    def status(self) -> dict[str, Any]:
        found = self.ask("cluster", "status", "--data", str(self.folder))
        return {member["name"]: member for member in found["members"]}

    def descriptors(self) -> list[int]:
        """Return what tells the end of each process."""
        return [os.pidfd_open(member["pid"]) for member in self.status().values()]

    def play(self, command: str, name: str) -> None:
        subprocess.run([BETTONG, "cluster", command, name, "--data", str(self.folder)], check=True, timeout=START_S)

    def end(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_S)


def log_of(folder: Path) -> str:
    file = folder.with_suffix(".err")
    return file.read_text()[-3000:] if file.exists() else ""


@contextlib.contextmanager
def cluster(folder: Path, *arguments: str) -> Iterator[Cluster]:
    """Run a cluster on free ports inside the block, from when it says that it is ready."""
    etcd_program()
    command = [BETTONG, "cluster", "up", "--port", "0", "--data", str(folder), *arguments]
    with folder.with_suffix(".err").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        welcome = []
        for line in process.stdout:
            welcome.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        yield Cluster(process, folder, welcome)
    finally:
        process.kill()
        process.communicate(timeout=STOP_S)


def deploy(url: str, replicas: int) -> bettong.Pipeline:
    client = bettong.Client(url)
    until_seen(client, replicas)
    model = client.upload_model("sums", linear_model(4))
    config = bettong.DeploymentConfigBuilder().replica_count(replicas).build()
    return client.build_pipeline("sums").add_model_step(model).deploy(deployment_config=config)


def until_seen(client: bettong.Client, executors: int) -> None:
    """Wait until a gateway sees so many executors: one is ready a moment before all others have heard of it."""
    began_s = time.monotonic()
    while sum(member.role == "executor" for member in client.members().members) < executors:
        assert time.monotonic() - began_s < START_S, client.members()


def answers(url: str, count: int) -> list[Any]:
    """Ask so often, eight at a time, and return the answers."""

    def ask(client: httpx.Client) -> Any:
        reply = client.post(f"{url}/v1/pipelines/sums/infer", json=[ROW])
        return reply.json() if reply.status_code == httpx.codes.OK else reply.text

    with httpx.Client(timeout=20) as client, ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, [client] * count))


def test_a_cluster_serves_through_deaths_and_ends_with_nothing_left(tmp_path: Path) -> None:
    """Everything is ready, answers go on when members are killed, paused and stopped, Ctrl-C ends all with code 0."""
    with cluster(tmp_path / "c", "--executors", "2") as running:
        assert httpx.get(f"{running.url}/readyz").status_code == httpx.codes.OK
        deploy(running.url, replicas=2)
        expected = answers(running.url, 1)[0]
        assert _outputs(expected) == [[10.0]]
        for command, name in (("kill", "executor-2"), ("kill", "router-1"), ("stop", "router-2"), ("kill", "etcd")):
            running.play(command, name)
            wrong = [found for found in answers(running.url, 300) if _outputs(found) != _outputs(expected)]
            assert wrong == []
        running.play("start", "router-2")
        pids = [member["pid"] for member in running.status().values()]
        assert running.end() == 0
    for pid in filter(None, pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _outputs(reply: Any) -> Any:
    return [row["out"]["y"] for row in reply] if isinstance(reply, list) else reply


def test_the_same_folder_brings_everything_back(tmp_path: Path) -> None:
    """Also after the supervisor was killed; a second cluster in it is refused with one line; a second signal kills."""
    folder = tmp_path / "c"
    with cluster(folder, "--routers", "1", "--executors", "1") as running:
        deploy(running.url, replicas=1)
        second = subprocess.run(
            [BETTONG, "cluster", "up", "--port", "0", "--data", str(folder)],
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert f"is used by another server (pid {running.process.pid})" in second.stderr
        descriptors = running.descriptors()
        running.process.kill()
    _ended(descriptors)
    with cluster(folder, "--routers", "1", "--executors", "1") as running:
        assert _outputs(answers(running.url, 1)[0]) == [[10.0]]
        descriptors = running.descriptors()
        running.process.send_signal(signal.SIGINT)
        # Another one, as two of a kind that wait are one. Draining takes a second at least, in which the others learn of it.
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(STOP_S) in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    _ended(descriptors)


def _ended(descriptors: list[int]) -> None:
    """Wait for the end of processes."""
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], STOP_S)[0], "a member outlives its supervisor"
        os.close(descriptor)


def test_members_and_status_show_what_is_where(tmp_path: Path) -> None:
    """All members with their roles, and each replica with where it stands."""
    with cluster(tmp_path / "c", "--gateways", "2", "--executors", "2") as running:
        deploy(running.url, replicas=2)
        members = running.ask("members", "--url", running.url)["members"]
        names = ["executor-1", "executor-2", "gateway-1", "gateway-2", "router-1", "router-2"]
        assert [member["name"] for member in members] == names
        (found,) = running.ask("status", "--url", running.url)["deployments"]
        assert [(replica["member"], replica["state"]) for replica in found["replicas"]] == [
            ("executor-1", "Ready"),
            ("executor-2", "Ready"),
        ]
        other = next(line.split()[1] for line in running.welcome if line.startswith("gateway-2:"))
        assert _outputs(answers(other, 1)[0]) == [[10.0]]
        assert running.end() == 0


def test_the_guide_works_from_top_to_bottom(tmp_path: Path) -> None:
    """What it says to type to a cluster on one machine is taken."""
    with cluster(tmp_path / "demo"):
        for block in blocks(GUIDE):
            if block.runs and "bettong cluster" in block.text and block.tag != "server":
                environment = os.environ | {"PATH": f"{Path(BETTONG).parent}:{os.environ['PATH']}"}
                _typed(block.text, tmp_path, environment)


def _typed(text: str, folder: Path, environment: dict[str, str]) -> None:
    """Type lines, each until it is taken: a member that was just stopped cannot be started yet."""
    for line in text.splitlines():
        subprocess.run(["/bin/bash", "-euc", line], cwd=folder, env=environment, timeout=START_S, check=True)
