"""Another version of Bettong for this one to share a cluster with: a commit that is frozen here, or a checkout that `BETTONG_OTHER` names.

The frozen commit is taken from the history and its engine built once, into the user's cache folder. It moves when a release does: the
version before has to be understood, and older ones need not.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FROZEN = "3ea3a622819702c7cb7e970e77986f769385cd22"
"""Links without a hello that is waited for, and reports without hedging."""

ROOT = Path(__file__).parents[1]


def other_version() -> Path:
    """Return a folder with another version and its engine, which is built if it has to be; skip where it cannot be."""
    named = os.environ.get("BETTONG_OTHER")
    return Path(named).resolve() if named else _frozen()


def _frozen() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bettong"
    folder = cache / "versions" / FROZEN
    if folder.is_dir():
        return folder
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed here, which builds the engine of the other version")
    if not _knows(FROZEN):
        pytest.skip(f"the history does not reach back to {FROZEN[:7]}; BETTONG_OTHER can name a checkout of it")
    growing = cache / "versions" / f"{FROZEN}.{os.getpid()}"
    growing.mkdir(parents=True)
    try:
        _take(growing)
        _build_engine(growing, {"CARGO_TARGET_DIR": str(cache / "target")} | os.environ)
        growing.rename(folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return folder


def _knows(commit: str) -> bool:
    look = ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(look, capture_output=True, check=False).returncode == 0


def _take(folder: Path) -> None:
    """Take the files of the frozen commit out of the history."""
    archive = folder / "files.zip"
    command = ["git", "-C", str(ROOT), "archive", "--format=zip", f"--output={archive}", FROZEN]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder)
    archive.unlink()


def _build_engine(folder: Path, environment: dict[str, str]) -> None:
    """Put the engine where a checkout that was set up has it."""
    package = folder / "engine/python"
    command = [
        str(Path(sys.executable).parent / "maturin"),
        "build",
        "--release",
        "--quiet",
        "--out",
        str(folder / "wheels"),
    ]
    built = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-4_000:]
    (wheel,) = (folder / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(package)
