"""Settings of the router service."""

from dataclasses import dataclass

from bettong_serving.config import ForwardingConfig


@dataclass(frozen=True, slots=True)
class RouterConfig(ForwardingConfig):
    """What every role that forwards has; the data port takes links of gateways."""
