"""Environments of other people's servers, one for each, under the user's cache folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_REQUIREMENTS = Path(__file__).resolve().parent / "peers" / "requirements"
_INSTALL_TIMEOUT_S = 900
_STAMP = ".installed"
_SYSTEM_PYTHON = Path("/usr/bin/python3")


class PeerError(Exception):
    """A peer can't be installed; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else's server."""

    name: str
    needs_system_python: bool = False
    """Its native part opens the system's libpython, which fits no other interpreter."""

    def python(self) -> Path:
        """Return its interpreter, after installing what it needs.

        Raises:
            PeerError: It does not install.
        """
        requirements = _REQUIREMENTS / f"{self.name}.txt"
        interpreter = str(_SYSTEM_PYTHON) if self.needs_system_python and _SYSTEM_PYTHON.exists() else sys.executable
        digest = hashlib.sha256(requirements.read_bytes() + interpreter.encode()).hexdigest()
        folder = _cache() / self.name
        python, stamp = folder / "bin" / "python", folder / _STAMP
        if stamp.exists() and stamp.read_text() == digest and python.exists():
            return python
        print(f"bench: installing {self.name}", file=sys.stderr, flush=True)
        _uv("venv", "--quiet", "--clear", "--python", interpreter, str(folder))
        _uv("pip", "install", "--quiet", "--python", str(python), "--requirement", str(requirements))
        stamp.write_text(digest)
        return python


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bettong" / "peers"


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        raise PeerError("uv is missing; `make setup` installs it")
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"it does not install within {_INSTALL_TIMEOUT_S} s") from error
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[-400:]
        raise PeerError(f"it does not install: {reason}")
