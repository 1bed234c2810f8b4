"""Models: what a file takes and gives, and how it is fed."""

import dataclasses
import enum
from collections import Counter
from dataclasses import dataclass
from typing import NewType

from bettong_kit.errors import InvalidArgumentError

ModelId = NewType("ModelId", str)
"""Under which the engine holds a loaded model: the digest of the file and how it is run."""


class Framework(enum.Enum):
    """How the bytes of a model are read and run."""

    ONNX = "onnx"


class BatchMode(enum.Enum):
    """How requests to a model may be joined."""

    ROWS = "rows"
    SINGLE = "single"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. The first dimension is the batch unless the mode is WHOLE; -1 is a free one."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs in the model's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_mode: BatchMode


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Settings of a model version that change how it is fed, not what it computes."""

    tensor_fields: tuple[str, ...] = ()
    """Incoming columns in the order of the inputs; empty matches by name."""
    batch_mode: BatchMode | None = None
    """Overrides what was read from the file."""
    max_batch_rows: int = 0
    """0 means the server's default."""
    max_batch_delay_us: int = 0
    """How long a batch may wait for more rows; 0 means not at all."""


@dataclass(frozen=True, slots=True, order=True)
class ModelKey:
    """Names one version of a model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model; immutable except for its config."""

    key: ModelKey
    sha256: str
    size_bytes: int
    framework: Framework
    signature: Signature
    config: ModelConfig
    file_name: str
    created_ms: int
    runtime: str

    def configured(self, config: ModelConfig) -> "Model":
        """Return the model with another config.

        Raises:
            InvalidArgumentError: The config does not fit the signature.
        """
        check_config(config, self.signature)
        return dataclasses.replace(self, config=config)


def batch_mode_of(signature: Signature, config: ModelConfig) -> BatchMode:
    """Return how a model is run: as configured, else as its file allows."""
    return config.batch_mode or signature.batch_mode


def model_id(sha256: str, mode: BatchMode) -> ModelId:
    """Return the id under which the engine holds a file that is run in a mode."""
    return ModelId(f"{sha256}:{mode.value}")


def check_config(config: ModelConfig, signature: Signature) -> None:
    """Check that a config fits what the file takes.

    Raises:
        InvalidArgumentError: Names the setting and what was expected.
    """
    allowed = {
        BatchMode.ROWS: set(BatchMode),
        BatchMode.SINGLE: {BatchMode.SINGLE, BatchMode.WHOLE},
        BatchMode.WHOLE: {BatchMode.WHOLE},
    }[signature.batch_mode]
    if config.batch_mode is not None and config.batch_mode not in allowed:
        names = " or ".join(sorted(mode.value for mode in allowed))
        raise _refused("batch_mode", f"this model's shapes allow {names}, not {config.batch_mode.value}")
    if config.tensor_fields:
        _check_tensor_fields(config.tensor_fields, signature)


def _check_tensor_fields(fields: tuple[str, ...], signature: Signature) -> None:
    twice = [name for name, count in Counter(fields).items() if count > 1]
    if twice or "" in fields:
        raise _refused("tensor_fields", f"names must differ and not be empty; given {list(fields)}")
    inputs = signature.inputs
    if len(fields) == len(inputs):
        return
    if len(inputs) == 1 and makes_row(inputs[0], len(fields)):
        return
    wanted = ", ".join(f"'{spec.name}' {spec}" for spec in inputs)
    raise _refused("tensor_fields", f"{len(fields)} names given for {len(inputs)} inputs: {wanted}")


def makes_row(spec: TensorSpec, width: int) -> bool:
    """Return whether that many scalar columns, side by side, are one row of an input."""
    return len(spec.shape) == 2 and spec.shape[1] in {-1, width} and spec.datatype != "BYTES"  # noqa: PLR2004 - rows, columns


def _refused(field: str, message: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field}: {message}", fields={field: message})
