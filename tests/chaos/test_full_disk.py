"""A disk that is full: uploads and changes are refused and say so, nothing is half-stored, and serving goes on."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_files
import pytest
from servers import START_TIMEOUT_S, Server, serving, spawn

import bettong

pytestmark = pytest.mark.slow

DISK_BYTES = 4 << 20
ROW: list[dict[str, Any]] = [{"x": 2.0}]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk of its own, which needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    unmount = ["umount", str(folder)]
    subprocess.run(unmount, check=True)


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[Server]:
    """Serve one small model from that disk."""
    with serving(disk / "data", lanes=1) as running:
        running.deploy("small", onnx_files.scaled(3), tmp_path)
        yield running


def stored(disk: Path) -> list[str]:
    """Return what is in the folder of model files."""
    return sorted(path.name for path in (disk / "data" / "models").iterdir())


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Write a file that takes what is free on the disk, except so many bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(secrets.token_bytes(free - leave))
    return filler


def serves(client: bettong.Client, pipeline: str, factor: float) -> None:
    assert client.get_pipeline(pipeline).infer(ROW)[0]["out.y"] == [2 * factor]


def test_a_model_that_does_not_fit_is_refused(server: Server, disk: Path) -> None:
    """Whether its size is told before or not; the server goes on, and takes one that fits."""
    large = onnx_files.scaled(1) + bytes(2 * DISK_BYTES)
    before = stored(disk)
    with server.client() as client:
        for _ in range(2):
            with pytest.raises(bettong.NoSpaceError, match="no space left for the file; nothing was stored"):
                client.upload_model("large", large)
            assert stored(disk) == before
        with pytest.raises(bettong.NotFoundError):
            client.get_model("large")
        serves(client, "small", 3)
        client.upload_model("other", onnx_files.scaled(5)).deploy("other")
        serves(client, "other", 5)
    assert len(stored(disk)) == len(before) + 1


def test_changes_on_a_full_disk_are_refused_until_there_is_room(server: Server, disk: Path) -> None:
    """Upload, configure, deploy and undeploy say so and change nothing; answers go on, and so do changes later."""
    with server.client() as client:
        model = client.upload_model("next", onnx_files.scaled(7))
        before = stored(disk)
        filler = fill(disk)
        refused = 0
        for number in range(200):
            try:
                client.upload_model("new", onnx_files.scaled(number + 100))
            except bettong.NoSpaceError:
                refused += 1
        assert refused == 200
        # The store has room that it took before; once that is used, it refuses as well.
        with pytest.raises(bettong.NoSpaceError, match="nothing was changed"):
            for number in range(500):
                model.configure(tensor_fields=[f"x{number}" * 1000])
        with pytest.raises(bettong.NoSpaceError, match="nothing was changed"):
            for number in range(500):
                model.deploy(f"deployed-{number}")
        assert stored(disk) == before
        serves(client, "small", 3)
        filler.unlink()
        model.configure(tensor_fields=["x"]).deploy("next")
        serves(client, "next", 7)


def test_what_was_there_comes_back_from_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """A restart needs a little room for the lock and the state's log, and none for models; without it the start says so."""
    with serving(disk / "data", lanes=1) as server:
        server.deploy("small", onnx_files.scaled(3), tmp_path)
    filler = fill(disk)
    refused = spawn(disk / "data")
    try:
        assert refused.process.wait(START_TIMEOUT_S) == 1
        refused.reader.join()
        told = [line for line in refused.lines if "no space left" in str(line).lower()]
    finally:
        refused.forget()
    assert len(told) == len(refused.lines) == 1, refused.lines
    filler.unlink()
    fill(disk, leave=256 << 10)
    with serving(disk / "data", lanes=1) as server, server.client() as client:
        serves(client, "small", 3)
