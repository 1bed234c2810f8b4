"""The etcd of a local cluster: found on this machine, or built once when asked for."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bettong_kit.errors import StartError

BUILT_VERSION = "3.6.16"
_MODULE = Path(__file__).with_name("etcd_server")
_USUAL_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/usr/sbin")
_OLDEST = (3, 4, 0)
_BUILD_TIMEOUT_S = 1_800.0
_VERSION_TIMEOUT_S = 10.0
_HOW_TO_GET = (
    "install it (Debian, Ubuntu: apt-get install etcd-server; macOS: brew install etcd), "
    f"or let `bettong cluster up --build-etcd` build {BUILT_VERSION} with Go"
)


def find_etcd(*, path: str | None = None) -> Path:
    """Return the program of etcd: from the path, the usual folders, or what was built before.

    Args:
        path: Folders to look in instead of all that.

    Raises:
        StartError: There is none, or it is too old; says how to get one.
    """
    folders = (os.environ.get("PATH", ""), *_USUAL_FOLDERS, str(_built().parent)) if path is None else (path,)
    found = shutil.which("etcd", path=os.pathsep.join(folders))
    if found is None:
        raise StartError(f"etcd is not on this machine; {_HOW_TO_GET}")
    program = Path(found)
    version = version_of(program)
    if version < _OLDEST:
        raise StartError(f"{program} is etcd {_dotted(version)}, too old; {_HOW_TO_GET}")
    return program


def build_etcd(say: Callable[[str], None]) -> Path:
    """Build a current etcd from its published module unless it was built before; return the program.

    Raises:
        StartError: Go is missing, or the build fails.
    """
    program = _built()
    if program.exists():
        return program
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise StartError("etcd is built with Go, which is not on the path (Debian: apt-get install golang-go)")
    say(f"building etcd {BUILT_VERSION} once, into {program.parent}: a minute or two")
    # Beside the place where it belongs, so that half a build is never found.
    unfinished = program.with_name(f"etcd.{os.getpid()}")
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished), "."]
    done = _run(command, timeout_s=_BUILD_TIMEOUT_S, folder=_MODULE)
    if done.returncode:
        raise StartError(f"etcd cannot be built: {' '.join(done.stderr.split())[-300:]}")
    unfinished.replace(program)
    return program


def version_of(program: Path) -> tuple[int, ...]:
    """Return the version of a program of etcd.

    Raises:
        StartError: It is not etcd.
    """
    text = _run([str(program), "--version"], timeout_s=_VERSION_TIMEOUT_S).stdout
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise StartError(f"{program} is not etcd: {text[:80]!r}")
    return tuple(int(part) for part in match.groups())


def may_lose_data(version: tuple[int, ...]) -> bool:
    """Return whether a kill can make this version inconsistent (etcd-io/etcd#13766)."""
    return (3, 5, 0) <= version < (3, 5, 3)


def etcd_command(program: Path, folder: Path, *, host: str, client_port: int, peer_port: int) -> list[str]:
    """Return the command of a single server that keeps its data in *folder*."""
    client, peer = f"http://{host}:{client_port}", f"http://{host}:{peer_port}"
    return [
        str(program),
        *("--name", "etcd", "--data-dir", str(folder)),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"etcd={peer}"),
        # The past is of no use to us: copies are listed anew when it is gone.
        *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "10m"),
        *("--logger", "zap", "--log-level", "warn", "--log-outputs", "stderr"),
    ]


def _built() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "bettong" / f"etcd-{BUILT_VERSION}" / "etcd"


def _run(command: list[str], *, timeout_s: float, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CGO_ENABLED": "0"}
    try:
        return subprocess.run(  # noqa: S603 - programs that were looked up
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"{command[0]} cannot be run: {error}") from error


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
