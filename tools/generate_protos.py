"""Write the Python stubs of our protos into the SDK and of etcd's into the kit, or check that what is committed equals them.

The folder of a proto is its package is its Python package, so the generated imports work as they are.
"""

import argparse
import filecmp
import os
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
HOMES = {"bettong": ROOT / "sdk", "bettong_kit": ROOT / "services/kit"}
"""Which folder of protos becomes stubs, and the source root that they belong to."""


def main() -> int:
    """Generate or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the committed stubs differ")
    check = bool(parser.parse_args().check)
    with tempfile.TemporaryDirectory() as folder:
        generated = generate(Path(folder))
        return compare(Path(folder), generated) if check else install(Path(folder), generated)


def generate(folder: Path) -> list[Path]:
    """Run protoc into *folder* and return the files that it wrote, relative to it."""
    sources = sorted(str(path.relative_to(PROTOS)) for home in HOMES for path in (PROTOS / home).rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    # protoc finds the plug-ins of mypy-protobuf beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{folder}" for kind in ("mypy", "mypy_grpc")]
    status = protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *outputs, *sources])
    if status:
        sys.exit(f"protoc failed with {status}")
    drop_empty_services(folder)
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def drop_empty_services(folder: Path) -> None:
    """Remove the grpc modules of protos without a service: they would only cost an import of grpc."""
    for path in folder.rglob("*_pb2_grpc.py"):
        if "Servicer" not in path.read_text():
            path.unlink()
            path.with_suffix(".pyi").unlink(missing_ok=True)


def target(path: Path) -> Path:
    """Return where a generated file belongs."""
    return HOMES[path.parts[0]] / path


def committed() -> set[Path]:
    """Return the generated files that are there now, as they are named when generated."""
    return {
        path.relative_to(root)
        for home, root in HOMES.items()
        for path in (root / home).rglob("*_pb2*.py*")
        if "__pycache__" not in path.parts
    }


def install(folder: Path, generated: list[Path]) -> int:
    """Replace the committed stubs by the generated ones."""
    for path in committed() - set(generated):
        target(path).unlink()
    for path in generated:
        target(path).parent.mkdir(parents=True, exist_ok=True)
        target(path).write_bytes((folder / path).read_bytes())
    print(f"protos: {len(generated)} files written")
    return 0


def compare(folder: Path, generated: list[Path]) -> int:
    """Say which committed stubs are missing, superfluous or different."""
    wrong = sorted(
        (committed() ^ set(generated))
        | {
            path
            for path in generated
            if target(path).exists() and not filecmp.cmp(folder / path, target(path), shallow=False)
        }
    )
    for path in wrong:
        print(
            f"protos: {target(path).relative_to(ROOT)} is not what protos/ generates; run `make protos`",
            file=sys.stderr,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
