"""Settings of the gateway service."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bettong_kit.addresses import check_free
from bettong_kit.config import load_settings
from bettong_serving.config import (
    CONFIG_FILE_VARIABLE,
    ENVIRONMENT_PREFIX,
    ForwardingConfig,
    check_positive,
    check_range,
)

_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class GatewayConfig(ForwardingConfig):
    """Everything that can be set, checked before anything starts. 0 leaves a choice to the engine unless it says otherwise."""

    control_port: int = -1
    """Port of the control plane; -1 is the one after the data port, or any free one if that is 0."""
    max_model_bytes: int = 8 << 30
    """Longest model file that is taken."""
    max_control_calls: int = 1_000
    """Control-plane calls at once."""
    load_parallelism: int = 2
    """Deployments that are brought up at once; models are loaded on that many threads."""
    router_inside: bool = True
    """In a cluster: choose executors here, which saves a hop; false leaves that to the members that are routers."""

    def __post_init__(self) -> None:
        """Check every value against the others.

        Raises:
            ConfigError: Names the setting and what was expected.
        """
        check_range("control_port", self.control_port, -1, _MAX_PORT)
        # `super()` does not find the class that `slots` made anew.
        ForwardingConfig.__post_init__(self)
        check_positive(self, "max_model_bytes", "max_control_calls", "load_parallelism")

    def ports(self) -> dict[str, int]:
        """Return every port by the name of its setting, the data port first; 0 is any free one."""
        return {
            "data_port": self.data_port,
            "control_port": self.control_port_or_next(),
            "metrics_port": self.metrics_port_or_next(),
        }

    def check_ports_free(self) -> None:
        """Look whether the ports can be listened on, in the order in which a user gives them.

        Raises:
            AddressInUseError: Names the port that is taken, and the one that it follows from.
        """
        follows = f"which follows --port {self.data_port}"
        derived = {"control_port": self.control_port < 0, "metrics_port": self.metrics_port < 0}
        for name, port in self.ports().items():
            flag = f"--{name.replace('_', '-')}"
            if name == "data_port":
                check_free(self.host, port, choose="choose another port with --port")
            elif derived[name] and port:
                what = f"the {name.replace('_', ' ')}, {follows}"
                check_free(self.host, port, what=what, choose=f"choose another port with --port or {flag}")
            else:
                check_free(self.host, port, what=f"the {name.replace('_', ' ')}", choose=f"choose another with {flag}")

    def control_port_or_next(self) -> int:
        """Return the control port, derived from the data port unless given."""
        return self.port_after(1) if self.control_port < 0 else self.control_port

    def metrics_port_or_next(self) -> int:
        """Return the metrics port, derived from the data port unless given."""
        return self.port_after(2) if self.metrics_port < 0 else self.metrics_port


def load_config(flags: Mapping[str, object], environment: Mapping[str, str] | None = None) -> GatewayConfig:
    """Read the settings: flags override the environment, which overrides the file that `BETTONG_CONFIG` names.

    Args:
        flags: Settings by name; those that are None count as not given.
        environment: Instead of the process's own.

    Raises:
        ConfigError: Names the setting, where its value came from and what was expected.
    """
    variables = os.environ if environment is None else environment
    file = variables.get(CONFIG_FILE_VARIABLE)
    return load_settings(
        GatewayConfig,
        prefix=ENVIRONMENT_PREFIX,
        flags=flags,
        environment=variables,
        file=Path(file) if file else None,
    )
