"""What `deploy/` holds is accepted by those who read it, and names nothing that Bettong does not have."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import click
import pytest
import yaml

from bettong._cli.commands import cli
from bettong_executor.config import ExecutorConfig
from bettong_gateway.config import GatewayConfig
from bettong_kit.config import load_settings
from bettong_kit.membership.settings import ClusterSettings, load_member_settings

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
COMPOSE = DEPLOY / "compose.yaml"
ROLES = ("executor", "gateway", "router")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return "" if done.returncode == 0 and not done.stderr else f"{done.stdout}{done.stderr}"


def _settings(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(?:Environment=)?(BETTONG_[A-Z_]+)=(.+)$", text, re.MULTILINE))


def _accept(environment: dict[str, str]) -> None:
    """Load settings from variables; fail for one that nobody reads."""
    known = {
        f"BETTONG_{name.upper()}"
        for kind in (GatewayConfig, ExecutorConfig, ClusterSettings)
        for name in get_type_hints(kind)
    }
    assert environment.keys() <= known | {"BETTONG_CONFIG"}
    needed = {"BETTONG_ETCD": "etcd", "BETTONG_BLOBS": "s3://bucket"}
    load_member_settings(GatewayConfig, {}, needed | {k: v for k, v in environment.items() if k != "BETTONG_CONFIG"})


def _parses(arguments: list[str]) -> None:
    """Fail if the command line does not take these arguments."""
    command = cli.get_command(click.Context(cli), arguments[0])
    assert command is not None, arguments
    command.make_context(arguments[0], arguments[1:])


def test_there_is_a_unit_for_each_role() -> None:
    """A template, so that a host may run several."""
    assert [unit.name for unit in UNITS] == [f"bettong-{role}@.service" for role in ROLES]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    """Without a word, when the program is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: units are not verified")
    instance = tmp_path / unit.name.replace("@", "@1")
    instance.write_text(unit.read_text().replace("/opt/bettong/bin/bettong", "/bin/true"))
    assert _run("systemd-analyze", "verify", "--man=no", str(instance)) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_calls_what_there_is(unit: Path) -> None:
    """Its command and its variables; it has longer to end than requests have to be answered."""
    text = unit.read_text()
    (line,) = re.findall(r"^ExecStart=/opt/bettong/bin/bettong (.+)$", text, re.MULTILINE)
    _parses(line.replace("%l-%i", "host-1").split())
    _accept(_settings(text))
    shared = tomllib.loads((DEPLOY / "systemd/bettong.toml").read_text())
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[0]) > shared["drain_timeout_s"]


def test_shared_and_own_settings_are_accepted() -> None:
    """As the units give them; ports of the roles do not meet on one host."""
    file = DEPLOY / "systemd/bettong.toml"
    load_settings(ClusterSettings, prefix="X_", flags={}, environment={}, file=file, beside=(GatewayConfig,))
    own = [_settings((DEPLOY / f"systemd/{role}-1.env").read_text()) for role in ROLES]
    for each in own:
        _accept(each)
    assert len({each["BETTONG_DATA_PORT"] for each in own}) == len(ROLES)


def test_the_compose_file_follows_its_schema() -> None:
    """Of the Compose specification."""
    program = str(Path(sys.executable).with_name("check-jsonschema"))
    assert _run(program, "--quiet", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)) == ""


def _services() -> Iterator[tuple[str, dict[str, object]]]:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    yield from ((name, service) for name, service in services.items() if name in ROLES)


def test_the_compose_file_starts_what_there_is() -> None:
    """Each role with settings that it has."""
    services = dict(_services())
    assert sorted(services) == sorted(ROLES)
    for service in services.values():
        assert isinstance(service["command"], list)
        assert isinstance(service["environment"], dict)
        _parses(service["command"])
        _accept({name: str(value) for name, value in service["environment"].items()})
