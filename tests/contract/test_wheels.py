"""What is published must work without the checkout and hold nothing else."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import bettong_engine

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("catalog", "domain", "executor", "gateway", "kit", "router", "serving")
ROOTS = {"sdk": {"bettong"}, "services": {f"bettong_{name}" for name in SERVICES}}
SERVE = """
import sys
# Without the site module no .pth file is read, so that nothing leads back to the checkout.
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import bettong, bettong_gateway, bettong_engine
from bettong_gateway.config import GatewayConfig
from bettong_gateway.embedded import EmbeddedServer
server = EmbeddedServer(GatewayConfig(data=Path(sys.argv[3]), data_port=0, lanes=1, log_level="error"))
server.stop()
print(*{str(Path(module.__file__).parents[1]) for module in (bettong, bettong_gateway, bettong_engine)})
"""


def _build(distribution: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT / distribution, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.parametrize("distribution", sorted(ROOTS))
def test_a_wheel_holds_its_import_roots_and_nothing_else(tmp_path: Path, distribution: str) -> None:
    """Each root is there with its marker for type checkers; nothing is installed under a generic name."""
    names = zipfile.ZipFile(_build(distribution, tmp_path)).namelist()
    roots = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert roots == ROOTS[distribution]
    assert {f"{root}/py.typed" for root in roots} <= set(names)


def test_the_wheels_serve_without_the_checkout(tmp_path: Path) -> None:
    """A server starts and stops from what the wheels hold."""
    installed = tmp_path / "installed"
    for distribution in ROOTS:
        (tmp_path / distribution).mkdir()
        zipfile.ZipFile(_build(distribution, tmp_path / distribution)).extractall(installed)
    # The engine's wheel takes a compiler; its folder in the checkout is what goes into it.
    assert bettong_engine.__file__ is not None
    (installed / "bettong_engine").mkdir()
    for file in Path(bettong_engine.__file__).parent.glob("*.*"):
        (installed / "bettong_engine" / file.name).write_bytes(file.read_bytes())
    paths = [str(installed), sysconfig.get_path("purelib"), str(tmp_path / "data")]
    done = subprocess.run([sys.executable, "-S", "-c", SERVE, *paths], check=False, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (str(installed), 0), done.stderr
