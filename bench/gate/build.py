"""Build the counting program and find what it needs."""

import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess
from pathlib import Path

from bench.gate.callgrind import GateError

_MANIFEST = Path(__file__).resolve().parents[2] / "engine" / "Cargo.toml"


def build() -> Path:
    """Build the counting program as the engine is built for a release, and return its path."""
    command = ["cargo", "build", "--release", "--quiet", "--message-format=json-render-diagnostics"]
    command += ["--manifest-path", str(_MANIFEST), "--package", "bettong-bench"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise GateError("the counting program does not build")
    for line in done.stdout.splitlines():
        executable = json.loads(line).get("executable")
        if executable:
            return Path(executable)
    raise GateError("cargo names no program")


def onnxruntime_library() -> Path:
    """Return the shared library inside the installed ONNX Runtime wheel."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise GateError("onnxruntime is not installed; `make setup` installs it")
    found = sorted((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        raise GateError("the installed onnxruntime has no shared library")
    return found[0]


def require_valgrind() -> None:
    """Refuse to go on without valgrind."""
    if shutil.which("valgrind") is None:
        raise GateError("valgrind is missing (Debian: apt-get install valgrind)")


def versions() -> dict[str, str]:
    """Return what the counts depend on besides the code."""

    def second_word(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]

    return {
        "architecture": platform.machine(),
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "rustc": second_word("rustc", "--version"),
    }
