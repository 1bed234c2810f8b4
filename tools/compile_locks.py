"""Write requirements.lock and requirements-dev.lock from the `.in` files, with hashes and without any address."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = [
    str(Path(sys.executable).parent / "uv"),
    *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-annotate", "--no-header", "--overrides", "requirements-overrides.in"),
]


def main() -> None:
    """Compile both; the development set takes the versions of the run-time set."""
    compile_lock("requirements.in", "requirements.lock")
    compile_lock("requirements-dev.in", "requirements-dev.lock", "--constraints", "requirements.lock")


def compile_lock(source: str, target: str, *options: str) -> None:
    """Resolve *source* into *target*, keeping pins that still fit."""
    subprocess.run([*COMPILE, *options, source, "--output-file", target], cwd=ROOT, check=True)
    print(f"locks: {target} written")


if __name__ == "__main__":
    main()
