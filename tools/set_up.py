"""Set up a checkout: `.venv`, locked packages, our own packages, the engine.

Each stage is skipped when the content of its inputs has not changed since it last succeeded, so a second run takes a
fraction of a second. Needs nothing but Python's standard library.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = VENV / ".stamps"
MINIMUM_PYTHON = (3, 11)

MINIMUM_RUST = (1, 88)

_RUST = (
    "a Rust toolchain, 1.88 or newer",
    "the installer from rustup.rs, or Debian 13: apt-get install rustup && rustup default stable",
)
TOOLS = {"cc": ("a C compiler", "Debian: apt-get install gcc libc6-dev"), "cargo": _RUST, "rustc": _RUST}


class SetUpError(Exception):
    """Something is missing or failed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of set-up and what it depends on."""

    name: str
    title: str
    inputs: Callable[[], Iterable[Path]]
    run: Callable[[], None]


def main() -> int:
    """Run the stages that are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also install what tests and checks need")
    dev = bool(parser.parse_args().dev)
    try:
        with locked_checkout():
            run_stages(stages(dev=dev))
    except SetUpError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def stages(*, dev: bool) -> list[Stage]:
    """Return the stages in the order in which they depend on each other."""
    requirements = "requirements-dev.lock" if dev else "requirements.lock"
    return [
        Stage("tools", "looking for the tools that the build needs", lambda: [Path(__file__)], check_tools),
        Stage("venv", "creating .venv", lambda: [ROOT / "requirements.lock"], create_venv),
        Stage(
            f"packages-{'dev' if dev else 'run'}",
            f"installing {requirements}",
            lambda: [ROOT / requirements],
            lambda: install_lock(requirements),
        ),
        Stage(
            "own",
            "installing bettong and bettong-services as editable",
            lambda: [ROOT / "sdk/pyproject.toml", ROOT / "services/pyproject.toml"],
            install_own,
        ),
        Stage("engine", "building the engine (a few minutes the first time)", engine_inputs, build_engine),
    ]


def run_stages(wanted: list[Stage]) -> None:
    """Run each stage whose inputs changed, saying what happens and how long it took."""
    stale = [(stage, stamp) for stage in wanted if (stamp := digest(stage.inputs())) != read_stamp(stage.name)]
    for number, (stage, stamp) in enumerate(stale, start=1):
        print(f"[{number}/{len(stale)}] {stage.title} …", flush=True)
        started_s = time.monotonic()
        stage.run()
        write_stamp(stage.name, stamp)
        print(f"[{number}/{len(stale)}] done in {time.monotonic() - started_s:.0f} s", flush=True)


class locked_checkout:  # noqa: N801 - reads as a function in `with`
    """Keep two set-ups of one checkout from running at once; the second waits."""

    def __enter__(self) -> None:
        """Take the lock, saying so when it has to be waited for."""
        self._descriptor = os.open(ROOT, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: another set-up of this checkout is running; waiting for it", flush=True)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def digest(paths: Iterable[Path]) -> str:
    """Hash the names and contents of files, and the Python that runs this."""
    state = hashlib.sha256(sys.version.encode())
    for path in sorted(paths):
        state.update(str(path.relative_to(ROOT)).encode())
        state.update(path.read_bytes())
    return state.hexdigest()


def read_stamp(name: str) -> str | None:
    """Return what a stage was last run for; a stamp lives in the environment that it describes."""
    try:
        return (STAMPS / name).read_text()
    except FileNotFoundError:
        return None


def write_stamp(name: str, stamp: str) -> None:
    """Note that a stage succeeded; the tools stage comes before there is a place for its stamp."""
    if VENV.exists():
        STAMPS.mkdir(exist_ok=True)
        (STAMPS / name).write_text(stamp)


def check_tools() -> None:
    """Name every missing tool at once, with the way to get it."""
    missing = [f"{name}: {what} ({how})" for name, (what, how) in TOOLS.items() if shutil.which(name) is None]
    if shutil.which("rustc") and (found := rust_version()) < MINIMUM_RUST:
        missing.append(f"rustc: version 1.88 or newer, this is {'.'.join(map(str, found))} ({_RUST[1]})")
    if sys.version_info < MINIMUM_PYTHON:
        missing.append(
            f"python3: version 3.11 or newer, this is {sys.version.split()[0]} (make setup PYTHON=/path/to/it)"
        )
    try:
        import ensurepip  # noqa: F401, PLC0415 - only to know that it is there
    except ImportError:
        missing.append("python3-venv: virtual environments (Debian: apt-get install python3-venv)")
    if missing:
        raise SetUpError("missing tools:\n  " + "\n  ".join(missing))


def rust_version() -> tuple[int, ...]:
    """Return major and minor version of the compiler, (0, 0) if it does not say."""
    done = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"rustc (\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def create_venv() -> None:
    """Create the environment and put the locked uv into it."""
    if not (VENV / "bin/python").exists():
        run([sys.executable, "-m", "venv", str(VENV)])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pinned:
        pinned.write(uv_requirement((ROOT / "requirements.lock").read_text()))
        pinned.flush()
        run([str(VENV / "bin/python"), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", pinned.name])


def uv_requirement(lock: str) -> str:
    """Return the entry of uv, with its hashes, from the text of a lock file."""
    found = re.search(r"^uv==.*(?:\n    .*)*", lock, re.MULTILINE)
    if found is None:
        raise SetUpError("requirements.lock does not pin uv; run `make locks`")
    return found.group() + "\n"


def install_lock(requirements: str) -> None:
    """Install a lock file. It is complete, so nothing is resolved again."""
    uv(["pip", "install", "--require-hashes", "--no-deps", "-r", requirements])


def install_own() -> None:
    """Make the checkout's own packages importable in place."""
    uv(["pip", "install", "--no-deps", "--no-build-isolation", "-e", "sdk", "-e", "services"])


def engine_inputs() -> list[Path]:
    """List what the engine is built from."""
    suffixes = {".rs", ".toml", ".lock"}
    crates = [path for path in (ROOT / "engine").rglob("*") if path.suffix in suffixes and "target" not in path.parts]
    return [*crates, *(ROOT / "protos").rglob("*.proto")]


def build_engine() -> None:
    """Build the engine in release mode and install it as editable."""
    run(
        [str(VENV / "bin/maturin"), "develop", "--uv", "--release", "--manifest-path", "engine/python/Cargo.toml"],
        VIRTUAL_ENV=str(VENV),
        PATH=f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        CARGO_TARGET_DIR=os.environ.get("CARGO_TARGET_DIR") or str(default_target()),
    )


def default_target() -> Path:
    """Return where crates are compiled: outside the checkout, so that clones share what they have in common."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "bettong/target"


def uv(arguments: list[str]) -> None:
    """Run the environment's own uv in the environment."""
    run([str(VENV / "bin/uv"), *arguments], VIRTUAL_ENV=str(VENV), UV_PYTHON_DOWNLOADS="never")


def run(command: list[str], **environment: str) -> None:
    """Run a command from the root of the checkout.

    Raises:
        SetUpError: It fails.
    """
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False)
    if done.returncode:
        raise SetUpError(
            f"`{Path(command[0]).name} {' '.join(command[1:4])} …` failed with {done.returncode}, see above"
        )


if __name__ == "__main__":
    sys.exit(main())
