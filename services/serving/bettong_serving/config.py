"""Settings that every role has: where it listens, where it keeps things, and how much its engine takes."""

from dataclasses import dataclass
from pathlib import Path

from bettong_kit.errors import ConfigError
from bettong_kit.logging import LEVELS, STYLES

ENVIRONMENT_PREFIX = "BETTONG_"
CONFIG_FILE_VARIABLE = "BETTONG_CONFIG"
_MAX_PORT = 65_535
_LONGEST_HEDGE_MS = 60_000


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """Settings of any role, checked before anything starts. 0 leaves a choice to the engine unless it says otherwise."""

    data: Path = Path(".bettong")
    """Folder that holds all state; created if needed."""
    host: str = "127.0.0.1"
    """Address that all ports bind."""
    data_port: int = 8080
    """Port of every protocol that carries events; 0 takes any free port."""
    metrics_port: int = -1
    """Port of the metrics; -1 is the one after the other ports, or any free one if the data port is 0."""
    log_level: str = "info"
    """debug, info, warning or error; can be changed at run time."""
    log_style: str = "auto"
    """console, json, or auto: console when stderr is a terminal."""
    drain_timeout_s: float = 30.0
    """How long requests in flight may take to be answered after the first SIGTERM."""
    lanes: int = 0
    """Reactor threads; 0 is one for each core that the process may use."""
    compute_threads: int = 0
    """Threads for slow models; 0 is as many as lanes."""
    slow_model_us: int = 0
    """A model whose one-row run takes longer runs on compute threads; 0 is 1,000."""
    spin_us: int = 0
    """How long an idle reactor looks for work before it sleeps."""
    max_batch_rows: int = 0
    """Longest batch for pipelines that do not say; 0 is 256."""
    max_queue_rows: int = 0
    """Rows that may wait for one pipeline on one lane; 0 is 65,536."""
    max_request_bytes: int = 0
    """Largest request; 0 is 512 MiB."""
    max_in_flight_bytes: int = 0
    """Bytes of all requests that are not answered yet; 0 is 2 GiB."""
    max_in_flight: int = 0
    """Requests that are not answered yet; 0 is 65,536."""
    max_connections: int = 0
    """Connections at once; 0 is 8,192."""
    keep_alive_s: int = 0
    """An HTTP/1.1 connection without a request is closed after this; 0 is 120 s."""
    read_timeout_s: int = 0
    """Time for a client to send a request, and for its reply while it takes nothing of it; 0 is 30 s."""

    def __post_init__(self) -> None:
        """Check every value against the others.

        Raises:
            ConfigError: Names the setting and what was expected.
        """
        check_range("metrics_port", self.metrics_port, -1, _MAX_PORT)
        # The ports after it must exist unless they are given.
        self._check_ports()
        _check_choice("log_level", self.log_level, tuple(LEVELS))
        _check_choice("log_style", self.log_style, STYLES)
        check_positive(self, "drain_timeout_s")
        for name in _ENGINE_COUNTS:
            check_range(name, getattr(self, name), 0, (1 << 63) - 1 if name.endswith("_bytes") else (1 << 32) - 1)

    def ports(self) -> dict[str, int]:
        """Return every port by the name of its setting, the data port first; 0 is any free one."""
        return {"data_port": self.data_port, "metrics_port": self.metrics_port_or_next()}

    def metrics_port_or_next(self) -> int:
        """Return the metrics port, derived from the data port unless given."""
        return self.port_after(1) if self.metrics_port < 0 else self.metrics_port

    def port_after(self, count: int) -> int:
        """Return the port that is *count* after the data port, or any free one if that is."""
        return self.data_port + count if self.data_port else 0

    def _check_ports(self) -> None:
        check_range("data_port", self.data_port, 0, _MAX_PORT)
        ports = self.ports()
        for name, port in ports.items():
            if port > _MAX_PORT and getattr(self, name) < 0:
                after = port - self.data_port
                most = _MAX_PORT - after
                raise ConfigError(
                    f"data_port (--port) must be at most {most}, since {name} is {after} higher, got {self.data_port}"
                )
            check_range(name, port, 0, _MAX_PORT)
        given = [port for port in ports.values() if port]
        if len(set(given)) != len(given):
            *names, last = (name.removesuffix("_port") for name in ports)
            found = ", ".join(map(str, ports.values()))
            raise ConfigError(f"{', '.join(names)} and {last} port must differ, got {found}")


@dataclass(frozen=True, slots=True)
class ForwardingConfig(ServingConfig):
    """What roles have that can forward requests to other processes."""

    hedge_after_ms: int = 0
    """In a cluster: a request that is not answered for so long is sent to another replica too; at most a minute; 0 is never."""

    def __post_init__(self) -> None:
        """Check every value against the others.

        Raises:
            ConfigError: Names the setting and what was expected.
        """
        # `super()` does not find the class that `slots` made anew.
        ServingConfig.__post_init__(self)
        check_range("hedge_after_ms", self.hedge_after_ms, 0, _LONGEST_HEDGE_MS)


_ENGINE_COUNTS = (
    "lanes",
    "compute_threads",
    "slow_model_us",
    "spin_us",
    "max_batch_rows",
    "max_queue_rows",
    "max_request_bytes",
    "max_in_flight_bytes",
    "max_in_flight",
    "max_connections",
    "keep_alive_s",
    "read_timeout_s",
)


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Refuse a value outside of its bounds.

    Raises:
        ConfigError: Names the setting and the bounds.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low} and {high}, got {value}")


def check_positive(config: ServingConfig, *names: str) -> None:
    """Refuse settings that are not above zero.

    Raises:
        ConfigError: Names the setting.
    """
    for name in names:
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name} must be positive, got {getattr(config, name)}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got '{value}'")
