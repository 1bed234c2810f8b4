"""Pipelines: named, versioned chains of steps."""

from dataclasses import dataclass

from bettong_domain.models import ModelConfig, ModelKey, Signature
from bettong_kit.errors import InvalidArgumentError

MAX_STEPS = 64
"""Longest chain; a longer one is a mistake in a loop, not a pipeline."""


@dataclass(frozen=True, slots=True)
class Step:
    """Run one model, with the config that it had when the version was made."""

    model: ModelKey
    config: ModelConfig


@dataclass(frozen=True, slots=True, order=True)
class PipelineKey:
    """Names one version of a pipeline."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One immutable version of a pipeline."""

    key: PipelineKey
    steps: tuple[Step, ...]
    signature: Signature
    created_ms: int


def check_step_count(count: int) -> None:
    """Check that a chain is neither empty nor endless.

    Raises:
        InvalidArgumentError: It is.
    """
    if not 1 <= count <= MAX_STEPS:
        message = f"a pipeline has 1 to {MAX_STEPS} steps, {count} given"
        raise InvalidArgumentError(message, fields={"steps": message})
