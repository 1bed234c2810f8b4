import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from bettong._errors import InvalidInputError
from bettong._model_settings import Acceleration, Architecture
from bettong.v1 import deployments_pb2

if TYPE_CHECKING:
    from bettong._models import ModelVersion

_BYTES_BY_UNIT = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


class DeploymentConfig:
    """What a deployment asks for beyond the version; built by `DeploymentConfigBuilder`."""

    def __init__(self, message: deployments_pb2.DeploymentConfig) -> None:
        self._message = message

    def to_pb(self) -> deployments_pb2.DeploymentConfig:
        """Return the config for the wire."""
        return self._message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeploymentConfig) and self._message == other._message

    def __hash__(self) -> int:
        return hash(self._message.SerializeToString(deterministic=True))

    def __repr__(self) -> str:
        return f"DeploymentConfig({' '.join(str(self._message).split())})"


class _Settings:
    """The config while it is built."""

    def __init__(self) -> None:
        self._message = deployments_pb2.DeploymentConfig()

    def _count(self, name: str, value: int, *, least: int = 0) -> int:
        if value < least:
            raise InvalidInputError(f"{name} must be at least {least}, got {value}", field=name)
        return value

    def _other(self, name: str, value: object) -> Self:
        self._message.other[name] = str(value)
        return self


class _Scaling(_Settings):
    """How many engines run."""

    def replica_count(self, count: int) -> Self:
        """Run that many engines."""
        self._message.replicas = self._count("replica_count", count, least=1)
        return self

    def replica_autoscale_min_max(self, maximum: int, minimum: int = 0) -> Self:
        """Run between *minimum* and *maximum* engines, as load asks."""
        if minimum > maximum:
            raise InvalidInputError("minimum must not be more than maximum", field="replica_autoscale_min_max")
        self._message.replicas_max = self._count("replica_autoscale_min_max", maximum, least=1)
        self._message.replicas_min = self._count("replica_autoscale_min_max", minimum)
        return self

    def autoscale_cpu_utilization(self, cpu_utilization_percentage: int) -> Self:
        """Aim at this mean CPU use in percent."""
        value = self._count("autoscale_cpu_utilization", cpu_utilization_percentage, least=1)
        self._message.autoscale_cpu_utilization = value
        return self

    def disable_autoscale(self) -> Self:
        """Keep the number of engines as it is."""
        for field in ("replicas_min", "replicas_max", "autoscale_cpu_utilization"):
            self._message.ClearField(field)
        return self

    def scale_up_queue_depth(self, queue_depth: int) -> Self:
        """Add engines when that many requests wait for one engine."""
        self._message.scale_up_queue_depth = self._count("scale_up_queue_depth", queue_depth, least=1)
        return self

    def scale_down_queue_depth(self, queue_depth: int = 1) -> Self:
        """Remove engines when fewer requests wait for one engine."""
        self._message.scale_down_queue_depth = self._count("scale_down_queue_depth", queue_depth)
        return self

    def autoscaling_window(self, window_seconds: int = 300) -> Self:
        """Average the queue depth over that many seconds."""
        self._message.autoscaling_window_s = self._count("autoscaling_window", window_seconds, least=1)
        return self


class _Resources(_Settings):
    """What one engine may use."""

    def cpus(self, core_count: float) -> Self:
        """Give each engine that many processor cores."""
        self._message.cpus = _positive("cpus", core_count)
        return self

    def memory(self, memory_spec: str) -> Self:
        """Give each engine that much memory, for example "512Mi" or "1Gi"."""
        self._message.memory_bytes = parse_bytes(memory_spec)
        return self

    def gpus(self, gpu_count: float) -> Self:
        """Give each engine that many GPUs."""
        self._message.gpus = self._count("gpus", int(gpu_count))
        return self

    def lb_cpus(self, core_count: float) -> Self:
        """Give the load balancer that many processor cores."""
        return self._other("lb_cpus", _positive("lb_cpus", core_count))

    def lb_memory(self, memory_spec: str) -> Self:
        """Give the load balancer that much memory."""
        return self._other("lb_memory", parse_bytes(memory_spec))

    def arch(self, arch: Architecture) -> Self:
        """Run on this processor architecture."""
        return self._other("arch", arch.value)

    def accel(self, accel: Acceleration) -> Self:
        """Run with this accelerator."""
        return self._other("accel", accel.value)

    def deployment_label(self, label: str) -> Self:
        """Run on nodes with a label, written `key:value`."""
        key, separator, value = label.partition(":")
        if not separator or not key.strip():
            raise InvalidInputError(f"deployment_label must be 'key:value', got {label!r}", field="deployment_label")
        self._message.labels[key.strip()] = value.strip()
        return self

    def image(self, image: str) -> Self:
        """Run this container image."""
        return self._other("image", image)

    def python_load_timeout_secs(self, timeout_secs: int) -> Self:
        """Let a Python model take that many seconds to load."""
        return self._other("python_load_timeout_secs", self._count("python_load_timeout_secs", timeout_secs, least=1))


class _Sidekicks(_Settings):
    """What the container of one model may use."""

    def sidekick_cpus(self, model: "ModelVersion", core_count: float) -> Self:
        """Give the model's container that many processor cores."""
        return self._sidekick("cpus", model, _positive("sidekick_cpus", core_count))

    def sidekick_memory(self, model: "ModelVersion", memory_spec: str) -> Self:
        """Give the model's container that much memory."""
        return self._sidekick("memory", model, parse_bytes(memory_spec))

    def sidekick_gpus(self, model: "ModelVersion", gpu_count: int) -> Self:
        """Give the model's container that many GPUs."""
        return self._sidekick("gpus", model, self._count("sidekick_gpus", gpu_count))

    def sidekick_env(self, model: "ModelVersion", environment: Mapping[str, str]) -> Self:
        """Set environment variables of the model's container."""
        return self._sidekick("env", model, json.dumps(dict(environment), sort_keys=True))

    def sidekick_arch(self, model: "ModelVersion", arch: Architecture) -> Self:
        """Run the model's container on this processor architecture."""
        return self._sidekick("arch", model, arch.value)

    def sidekick_accel(self, model: "ModelVersion", accel: Acceleration) -> Self:
        """Run the model's container with this accelerator."""
        return self._sidekick("accel", model, accel.value)

    def _sidekick(self, setting: str, model: "ModelVersion", value: object) -> Self:
        return self._other(f"sidekick_{setting}:{model.name()}", value)


class DeploymentConfigBuilder(_Scaling, _Resources, _Sidekicks):
    """Collects what a deployment asks for; each method returns the builder.

    One process takes every setting and says once, when it deploys, which of them have no effect there.
    """

    def build(self) -> DeploymentConfig:
        """Return the config; the builder can be used further."""
        message = deployments_pb2.DeploymentConfig()
        message.CopyFrom(self._message)
        return DeploymentConfig(message)


def parse_bytes(text: str) -> int:
    """Return the bytes that a quantity such as "512Mi", "1Gi" or "1.5G" stands for.

    Raises:
        InvalidInputError: It is no such quantity.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMGT]i?)?", text.strip())
    unit = (found.group(2) or "") if found else "?"
    unit = {"K": "k", "ki": "Ki"}.get(unit, unit)
    if found is None or unit not in _BYTES_BY_UNIT or not float(found.group(1)):
        raise InvalidInputError(
            f"'{text}' is no amount of memory; expected for example '512Mi' or '1Gi'", field="memory"
        )
    return round(float(found.group(1)) * _BYTES_BY_UNIT[unit])


def _positive(name: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise InvalidInputError(f"{name} must be more than 0, got {value}", field=name)
    return value
