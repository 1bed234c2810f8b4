"""Tables of the documentation say what the code does."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docs.pages import ROOT, table
from onnx_files import identity
from servers import Server, serving

from bettong_executor.config import ExecutorConfig
from bettong_gateway.config import GatewayConfig
from bettong_kit.config import describe_settings
from bettong_kit.membership.settings import ClusterSettings
from bettong_kit.rpc import STATUS_BY_CODE
from bettong_serving.config import ENVIRONMENT_PREFIX

PROTOCOLS = ROOT / "docs/protocols.md"
OPERATE = ROOT / "docs/guides/operate-one-process.md"
OPERATE_CLUSTER = ROOT / "docs/guides/operate-a-cluster.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
ENGINE_ERRORS = ROOT / "engine/frame/src/error.rs"
ENGINE_HEADERS = ("engine/gateway/src", "engine/wire/src")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve one pipeline, so that every metric is there."""
    folder = tmp_path_factory.mktemp("facts")
    with serving(folder / "data") as running:
        running.deploy("echo", identity("FP32"), folder)
        yield running


def test_every_http_route_is_described(server: Server) -> None:
    """The table of routes has the paths and methods of the OpenAPI document, which the server writes itself."""
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    rows = table(PROTOCOLS, "| method | path | answers |")
    described = {f"{row[0]} {path.strip()}" for row in rows for path in row[1].split(",")}
    assert served == described


def test_every_rpc_is_described() -> None:
    """Each rpc of each proto is in one of the two tables of rpcs, and nothing else is."""
    protos = [*(ROOT / "protos/inference").glob("*.proto"), *(ROOT / "protos/grpc").rglob("*.proto")]
    protos += (ROOT / "protos/bettong/v1").glob("*.proto")
    defined = {rpc for proto in protos for rpc in _rpcs(proto.read_text(encoding="utf-8"))}
    described = {
        f"{row[0]}/{name.strip()}"
        for header in ("| service | rpc | on the data port |", "| service | rpc | on the control port |")
        for row in table(PROTOCOLS, header)
        for name in row[1].split(",")
    }
    assert defined == described


def _rpcs(proto: str) -> Iterator[str]:
    package = re.search(r"^package ([\w.]+);", proto, re.MULTILINE)
    assert package
    service = ""
    for match in re.finditer(r"^service (\w+)|^ *rpc (\w+)", proto, re.MULTILINE):
        service = match[1] or service
        if match[2]:
            yield f"{package[1]}.{service}/{match[2]}"


def test_the_error_table_is_the_engines() -> None:
    """Kind, gRPC code and HTTP status of every error are those of the engine's one table."""
    source = ENGINE_ERRORS.read_text(encoding="utf-8")
    grpc, http = (_arms(source, function) for function in ("grpc_code", "http_status"))
    rows = table(PROTOCOLS, "| kind | gRPC code | HTTP status | when |")
    described = {row[0]: (int(row[1].split()[-1]), int(row[2])) for row in rows}
    assert {kind: (grpc[kind], http[kind]) for kind in grpc} == described


def _arms(source: str, function: str) -> dict[str, int]:
    """Read a `match` from error kinds to numbers."""
    start = source.index(f"pub const fn {function}")
    body = source[start : source.index("\n    }\n", start)]
    arms = re.findall(r"^ *((?:\|? ?Self::\w+(?:\(_\))? ?)+)=> (\d+),$", body, re.MULTILINE)
    return {kind: int(number) for kinds, number in arms for kind in re.findall(r"Self::(\w+)", kinds)}


def test_the_control_planes_error_table_is_its_own() -> None:
    """Code and gRPC status of every control-plane error are those of its one table."""
    rows = table(PROTOCOLS, "| code | gRPC status | when |")
    described = {row[0]: row[1] for row in rows}
    assert {code.name: status.name for code, status in STATUS_BY_CODE.items()} == described


def test_every_header_is_known_to_the_engine() -> None:
    """The table of headers names none that the engine does not read or write."""
    files = (path for folder in ENGINE_HEADERS for path in (ROOT / folder).rglob("*.rs"))
    source = "\n".join(path.read_text(encoding="utf-8").lower() for path in files)
    rows = table(PROTOCOLS, "| header | where | meaning |")
    names = [name.strip() for row in rows for name in row[0].split(",")]
    # Standard headers are constants of the `http` crate.
    constant = {name: f"header::{name.replace('-', '_')}" for name in names}
    assert [name for name in names if f'"{name}"' not in source and constant[name] not in source] == []


def test_every_setting_is_described_with_its_default() -> None:
    """The table of settings has every setting of the server, with its variable, type and default."""
    rows = table(OPERATE, "| variable | type | default | meaning |")
    assert describe_settings(GatewayConfig, ENVIRONMENT_PREFIX) == [(row[0], row[1], row[2]) for row in rows]


def test_every_setting_of_a_member_is_described_with_its_default() -> None:
    """The table of the cluster's guide has what makes a process a member."""
    rows = table(OPERATE_CLUSTER, "| variable | type | default | meaning |")
    assert describe_settings(ClusterSettings, ENVIRONMENT_PREFIX) == [(row[0], row[1], row[2]) for row in rows]
    known = {variable for variable, *_ in describe_settings(GatewayConfig, ENVIRONMENT_PREFIX)}
    own = [each for each in describe_settings(ExecutorConfig, ENVIRONMENT_PREFIX) if each[0] not in known]
    rows = table(OPERATE_CLUSTER, "| variable of executors | type | default | meaning |")
    assert own == [(row[0], row[1], row[2]) for row in rows]


def test_every_metric_is_described(server: Server) -> None:
    """The table of metrics has the families that the metrics page has."""
    exposed = set(re.findall(r"^# TYPE (\S+)", server.counts().page, re.MULTILINE))
    rows = table(OPERATE, "| metric | type | labels | meaning |")
    assert exposed == {row[0] for row in rows}


def test_bounds_are_named_by_their_settings() -> None:
    """Each bound of the architecture page that is a setting exists under that name."""
    rows = table(ARCHITECTURE, "| thing | owner | bound (setting, default) | when full |")
    settings = {name for row in rows for name in re.findall(r"\b(?:max|keep|read|drain|compute|spin)_\w+", row[2])}
    known = {
        variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        for variable, _, _ in describe_settings(GatewayConfig, ENVIRONMENT_PREFIX)
    }
    assert settings
    assert set() == settings - known


def test_decisions_are_numbered_without_a_gap() -> None:
    """Decision records are 0001, 0002, … and each says its status."""
    records = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert [f"{number:04}" for number in range(1, len(records) + 1)] == [record.name[:4] for record in records]
    assert [record.name for record in records if "\nStatus: " not in record.read_text(encoding="utf-8")] == []


def test_the_changelog_begins_with_the_version_of_the_packages() -> None:
    """The newest entry of the change log is the version that is built."""
    versions = {
        match[1]
        for path in ("pyproject.toml", "sdk/pyproject.toml", "services/pyproject.toml")
        if (match := re.search(r'^version = "(.+)"$', Path(ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))
    }
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert {newest[1]} == versions
