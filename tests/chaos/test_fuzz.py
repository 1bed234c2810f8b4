"""Bytes that nobody would send, into every decoder of the data port, for a minute each."""
# ruff: noqa: T201 - a run says what it did

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "engine/fuzz"
SECONDS = int(os.environ.get("BETTONG_FUZZ_SECONDS", "60"))
TARGETS = sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))

# Compiles the decoders with coverage first.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200 + len(TARGETS) * SECONDS)]


@pytest.fixture
def environment() -> dict[str, str]:
    """Compile where `make` does, outside of the checkout."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {"CARGO_TARGET_DIR": str(cache / "bettong/target")} | os.environ


def test_the_decoders_survive_whatever_they_are_given(environment: dict[str, str]) -> None:
    """No panic, no overflow, no endless loop and no allocation out of proportion."""
    command = [str(FUZZ / "run"), str(SECONDS), *TARGETS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout.strip())
    assert done.returncode == 0, done.stderr[-4_000:]
    counts = [line.split()[:2] for line in done.stdout.splitlines()]
    executed = {name.removesuffix(":"): int(count) for name, count in counts}
    assert sorted(executed) == TARGETS
    assert min(executed.values()) > 1_000 * SECONDS, executed


def test_every_decoder_is_among_them() -> None:
    """A run without names takes the targets that are there."""
    listed = next(line for line in (FUZZ / "run").read_text().splitlines() if "targets=(" in line)
    assert set(listed.partition("else targets=(")[2].partition(")")[0].split()) == set(TARGETS)
