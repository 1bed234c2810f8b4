"""Settings of the router service."""

from dataclasses import dataclass

from bettong_serving.config import ServingConfig


@dataclass(frozen=True, slots=True)
class RouterConfig(ServingConfig):
    """What every role has; the data port takes links of gateways."""
