"""The servers: how each is started, and which points it can answer."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.peer_environments import Peer
from bench.workload import MODEL_NAME, Workload

_SPIN_US = 200
_SLOW_START_S = 120.0
_GRPC_POINTS = ("c1", "c16", "c64", "b128", "b1024")
_STREAM_POINTS = ("s1", "s8")
_JSON_POINTS = ("r16", "r64")
_BINARY_POINTS = ("x16", "x64")
_OWN_JSON_POINTS = ("p1", "p16", "p64")
_PEER_GRPC_POINTS = ("c1", "c16", "c64", "b128")
_PEER_JSON_POINTS = ("r1", *_JSON_POINTS)

_PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is to run."""

    port: int
    folder: Path
    """For its files, deleted afterwards."""
    python: Path
    """Interpreter of its environment."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that is measured."""

    name: str
    title: str
    points: tuple[str, ...]
    command: Callable[[Place, Workload], list[str]]
    peer: Peer | None = None
    """Its packages, if it is somebody else's."""
    start_timeout_s: float = 30.0
    env: Mapping[str, str] = field(default_factory=dict)
    answers_right: bool = True
    """False for an echo, whose answers are not checked."""


def all_contenders(*, with_peers: bool) -> list[Contender]:
    """Return the servers in the order of the table; the yardstick only if its path is given."""
    return [*_bettong(), *_clusters(), *_yardstick(), *(_peers() if with_peers else [])]


def bettong_program() -> str:
    """Return the path of the installed command."""
    return str(Path(sys.executable).with_name("bettong"))


def bettong_command(workload: Workload, port: int, folder: Path, *flags: str) -> list[str]:
    """Return the command that serves the workload's model."""
    command = [bettong_program(), "serve", str(workload.path), "--name", MODEL_NAME, "--port", str(port)]
    ports = ["--control-port", "0", "--metrics-port", "0"]
    return [*command, *ports, "--data", str(folder / "data"), "--log-level", "warning", *flags]


def _bettong() -> list[Contender]:
    points = (*_GRPC_POINTS, *_STREAM_POINTS, *_JSON_POINTS, *_BINARY_POINTS)
    spin = ("--spin-us", str(_SPIN_US))
    return [
        Contender("bettong", "Bettong", points, lambda at, load: bettong_command(load, at.port, at.folder)),
        Contender(
            "bettong-spin",
            f"Bettong, --spin-us {_SPIN_US}",
            ("c1", "c16", "c64"),
            lambda at, load: bettong_command(load, at.port, at.folder, *spin),
        ),
    ]


def _clusters() -> list[Contender]:
    """Several processes on one core: what hops cost."""

    def command(routers: int) -> Callable[[Place, Workload], list[str]]:
        def chain(at: Place, workload: Workload) -> list[str]:
            arguments = [str(workload.path), str(at.port), str(at.folder), str(routers)]
            return [sys.executable, "-m", "bench.chain", *arguments]

        return chain

    points = ("c1", "c16", "c64", "b128", *_STREAM_POINTS, *_JSON_POINTS)
    return [
        Contender("chain", "Bettong: gateway, router, executor", points, command(1), start_timeout_s=_SLOW_START_S),
        Contender(
            "inside", "Bettong: gateway with router, executor", points, command(0), start_timeout_s=_SLOW_START_S
        ),
    ]


def _yardstick() -> list[Contender]:
    """The least server in Rust, if somebody gives the path of its program."""
    program = os.environ.get("BETTONG_YARDSTICK")
    if not program:
        return []
    library = os.environ.get("BETTONG_YARDSTICK_ORT", "")

    def command(at: Place, workload: Workload) -> list[str]:
        return [program, str(workload.path), str(workload.rows[0].size), str(at.port)]

    env = {"ORT_DYLIB_PATH": library} if library else {}
    return [Contender("yardstick", "Yardstick", (*_GRPC_POINTS, *_STREAM_POINTS), command, env=env)]


def _script(name: str, *flags: str) -> Callable[[Place, Workload], list[str]]:
    """Run a peer's script with the model, its input and the port."""

    def command(at: Place, workload: Workload) -> list[str]:
        script = str(_PEERS / name)
        return [str(at.python), script, str(workload.path), workload.input, str(at.port), str(at.folder), *flags]

    return command


def _peers() -> list[Contender]:
    return [
        *_python_servers(),
        *_both_protocols("triton", "Triton, Python backend", "triton.py", Peer("triton", needs_system_python=True)),
        *_both_protocols("mlserver", "MLServer", "mlserver_ort.py", Peer("mlserver")),
        _own_json("bentoml", "BentoML, adaptive batching"),
        _own_json("litserve", "LitServe"),
    ]


def _python_servers() -> list[Contender]:
    """The least that Python can do."""
    aio = Peer("grpc-aio")
    echo = _script("grpc_aio.py", "--echo")
    return [
        Contender("grpc-aio", "grpc.aio + ORT", _PEER_GRPC_POINTS, _script("grpc_aio.py"), aio),
        Contender("grpc-aio-echo", "grpc.aio, no model", ("c1", "c16"), echo, aio, answers_right=False),
        Contender("uvicorn", "uvicorn + orjson + ORT", _PEER_JSON_POINTS, _script("uvicorn_ort.py"), Peer("uvicorn")),
    ]


def _both_protocols(name: str, title: str, script: str, peer: Peer) -> list[Contender]:
    """A server of the Open Inference Protocol, started once for each of its ports."""
    grpc, rest = _script(script), _script(script, "--rest")
    rest_points = (*_PEER_JSON_POINTS, *_BINARY_POINTS) if name == "triton" else _PEER_JSON_POINTS
    return [
        Contender(f"{name}-grpc", title, _PEER_GRPC_POINTS, grpc, peer, _SLOW_START_S),
        Contender(f"{name}-rest", title, rest_points, rest, peer, _SLOW_START_S),
    ]


def _own_json(name: str, title: str) -> Contender:
    """A framework whose routes are its user's."""
    return Contender(name, title, _OWN_JSON_POINTS, _script(f"{name}_ort.py"), Peer(name), _SLOW_START_S)
