"""What a local cluster consists of, and the command line of each member."""

import contextlib
import os
import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from bettong._cluster.child import ChildPlan
from bettong_executor.memory import memory_bytes
from bettong_kit.addresses import check_free
from bettong_kit.errors import AddressInUseError, ConfigError
from bettong_kit.membership.settings import ClusterSettings

CLUSTER = "local"
LOOPBACK = "127.0.0.1"
PORTS_APART = 10
PROGRAM = (sys.executable, "-m", "bettong")
_PORTS = 3
"""Of a gateway: data, control, metrics."""
_FIRST_PORT, _MAX_PORT = 10_000, 65_535
_USUAL_FIRST_GIVEN = 32_768
_MAX_MEMBERS = 64
_NOT_INHERITED = frozenset({"BETTONG_CONFIG", "BETTONG_HOST", "BETTONG_DATA", "BETTONG_DATA_PORT"})
"""Variables that mean the cluster as a whole, or would mean the same for all members; they get flags instead."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Everything that can be set, checked before anything starts."""

    gateways: int = 1
    routers: int = 2
    """With none, gateways choose executors themselves."""
    executors: int = 3
    port: int = 8080
    """Port of the first gateway; each further one has it 10 higher. 0 takes free ones."""
    host: str = LOOPBACK
    """Address that the gateways listen on; everybody else is for this machine alone."""
    data: Path = Path(".bettong-cluster")
    """Folder that holds everything; created if needed."""
    lanes: int = 1
    """Reactor threads of each member."""
    log_level: str = "info"
    drain_timeout_s: float = 10.0
    """How long the members of each role may take to end."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: Names the flag and what was expected.
        """
        for name, fewest in (("gateways", 1), ("routers", 0), ("executors", 1)):
            if not fewest <= getattr(self, name) <= _MAX_MEMBERS:
                raise ConfigError(f"--{name} must be between {fewest} and {_MAX_MEMBERS}, got {getattr(self, name)}")
        last = self.port + PORTS_APART * (self.gateways - 1) + _PORTS - 1 if self.port else 0
        if not 0 <= self.port <= last <= _MAX_PORT:
            raise ConfigError(f"--port must leave {last - self.port + 1} ports up to {_MAX_PORT}, got {self.port}")
        if self.drain_timeout_s <= 0:
            raise ConfigError(f"--drain-timeout-s must be more than 0, got {self.drain_timeout_s:g}")

    def gateway_ports(self) -> list[tuple[int, ...]]:
        """Return data, control and metrics port of each gateway.

        Raises:
            AddressInUseError: One that was asked for is taken.
        """
        if not self.port:
            ports = free_ports(self.host, _PORTS * self.gateways)
            return [tuple(ports[_PORTS * at : _PORTS * (at + 1)]) for at in range(self.gateways)]
        found = [
            tuple(range(first, first + _PORTS))
            for first in range(self.port, self.port + PORTS_APART * self.gateways, PORTS_APART)
        ]
        for port in (port for ports in found for port in ports):
            check_free(self.host, port, choose="choose another port with --port")
        return found

    def members(
        self, etcd: str, ports: Sequence[tuple[int, ...]], *, program: Sequence[str] = PROGRAM
    ) -> dict[str, list[ChildPlan]]:
        """Return the members by role in the order of their start.

        Args:
            etcd: Its address.
            ports: Those of the gateways.
            program: What each command begins with.
        """
        inside = "--no-router-inside" if self.routers else "--router-inside"
        gateway_flags = [
            [
                inside,
                "--host",
                self.host,
                "--port",
                str(data),
                "--control-port",
                str(control),
                "--metrics-port",
                str(metrics),
            ]
            for data, control, metrics in ports
        ]
        common = [
            *("--cluster", CLUSTER, "--etcd", etcd, "--blobs", f"file://{self.data.absolute() / 'blobs'}"),
            *("--lanes", str(self.lanes), "--drain-timeout-s", f"{self.drain_timeout_s:g}"),
            *("--log-level", self.log_level, "--log-format", "json"),
        ]
        inner = ["--host", LOOPBACK, "--port", "0"]
        flags = {
            "executor": [[*inner, *self._shares()]] * self.executors,
            "router": [inner] * self.routers,
            "gateway": gateway_flags,
        }
        return {
            role: [
                self._member(role, number, [*program, role, *common, *own]) for number, own in enumerate(each, start=1)
            ]
            for role, each in flags.items()
        }

    def log(self, name: str) -> Path:
        """Return the file that a member's output goes to."""
        return self.data / "logs" / f"{name}.log"

    def _shares(self) -> list[str]:
        """Return what executors have in common: the machine's memory, and the files that one of them has fetched."""
        memory = memory_bytes() // self.executors
        return ["--cache", str(self.data.absolute() / "cache"), *(["--memory-bytes", str(memory)] if memory else [])]

    def _member(self, role: str, number: int, command: Sequence[str]) -> ChildPlan:
        name = f"{role}-{number}"
        own = ("--name", name, "--data", str(self.data.absolute() / name))
        return ChildPlan(name, role, [*command, *own], self.log(name), _environment())


def _environment() -> dict[str, str]:
    """Return our variables without those that members are told by flags, or must not be told."""
    dropped = _NOT_INHERITED | {f"BETTONG_{setting.name.upper()}" for setting in fields(ClusterSettings)}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def free_ports(host: str, count: int) -> list[int]:
    """Return ports that nobody listens on, for those who may end and come back to theirs; all are held until all are known.

    They are not of those that the system gives to connections, one of which could have it meanwhile.
    """
    first_given = _first_given_port()
    ports = range(_FIRST_PORT, first_given if first_given > 2 * _FIRST_PORT else _MAX_PORT + 1)
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.SystemRandom().sample(ports, len(ports)):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind((host, port))
                found.append(port)
            if len(found) == count:
                return found
    raise AddressInUseError(f"there are no {count} free ports on {host} from {ports.start} to {ports.stop - 1}")


def _first_given_port() -> int:
    """Return where the ports begin that connections are given (ip(7), ip_local_port_range)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_FIRST_GIVEN
