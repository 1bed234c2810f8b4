import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bettong._errors import InvalidInputError
from bettong.v1 import models_pb2

if TYPE_CHECKING:
    import pyarrow as pa

    from bettong._signature import Signature


class Framework(enum.Enum):
    """How the bytes of a model are to be read and run."""

    ONNX = "onnx"


class Architecture(enum.Enum):
    """Processor that a model is meant for; one process runs what its own machine is."""

    X86 = "x86"
    ARM = "arm"
    POWER10 = "power10"


class Acceleration(enum.Enum):
    """Accelerator that a model is meant for; one process runs on the processor."""

    _None = "none"
    CUDA = "cuda"
    Jetson = "jetson"
    OpenVINO = "openvino"
    QAIC = "qaic"
    ROCM = "rocm"


@dataclass(frozen=True, slots=True)
class DynamicBatchingConfig:
    """Join rows of different requests for a while instead of running what waits at once.

    Attributes:
        max_batch_delay_ms: How long a batch may wait for more rows, in milliseconds.
        batch_size_target: Rows at which a batch need not wait longer, unless a limit is given.
        batch_size_limit: Longest batch in rows; the target if None.
    """

    max_batch_delay_ms: float = 10
    batch_size_target: int = 4
    batch_size_limit: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidInputError: One of them makes no sense.
        """
        if not 0 <= self.max_batch_delay_ms <= _LONGEST_DELAY_MS:
            raise InvalidInputError(
                f"max_batch_delay_ms must be between 0 and {_LONGEST_DELAY_MS}, got {self.max_batch_delay_ms}",
                field="max_batch_delay_ms",
            )
        if self.batch_size_target < 1:
            raise InvalidInputError("batch_size_target must be at least 1", field="batch_size_target")
        if self.batch_size_limit is not None and self.batch_size_limit < self.batch_size_target:
            raise InvalidInputError(
                "batch_size_limit must not be less than batch_size_target", field="batch_size_limit"
            )

    @property
    def max_batch_rows(self) -> int:
        """Longest batch in rows."""
        return self.batch_size_limit or self.batch_size_target


_ONNX_ONLY = "only ONNX is served; convert models with tf2onnx (TensorFlow, Keras), torch.onnx (PyTorch) or skl2onnx (scikit-learn)"
_LONGEST_DELAY_MS = 60_000
_SINGLE = "single"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """How a model version is fed."""

    _runtime: str
    _tensor_fields: tuple[str, ...]
    _batch_mode: int
    _max_batch_rows: int
    _max_batch_delay_us: int

    def runtime(self) -> str:
        """Return the runtime that runs the model, for example "onnx"."""
        return self._runtime

    def tensor_fields(self) -> list[str]:
        """Return the incoming columns in the order of the model's inputs; empty if they are matched by name."""
        return list(self._tensor_fields)

    def batch_config(self) -> str | None:
        """Return "single" if the model runs one row at a time, else None."""
        return _SINGLE if self._batch_mode == models_pb2.BATCH_MODE_SINGLE else None

    def dynamic_batching_config(self) -> DynamicBatchingConfig | None:
        """Return how rows of different requests are joined; None if they are joined without waiting."""
        if not self._max_batch_delay_us and not self._max_batch_rows:
            return None
        return DynamicBatchingConfig(self._max_batch_delay_us / 1000, max(1, self._max_batch_rows))

    def __repr__(self) -> str:
        return (
            f"ModelConfig(runtime={self._runtime!r}, tensor_fields={self.tensor_fields()}, "
            f"batch_config={self.batch_config()!r}, dynamic_batching_config={self.dynamic_batching_config()})"
        )


def config_from_pb(framework: Framework, message: models_pb2.ModelConfig) -> ModelConfig:
    """Convert a config from the wire."""
    return ModelConfig(
        framework.value,
        tuple(message.tensor_fields),
        message.batch_mode,
        message.max_batch_rows,
        message.max_batch_delay_us,
    )


def framework_of(given: Framework | str | None, file_name: str) -> Framework:
    """Return the framework that was given, else the one that the file's suffix stands for.

    Raises:
        InvalidInputError: It is unknown, or nothing tells.
    """
    if isinstance(given, Framework):
        return given
    if given is None and file_name.lower().endswith(".onnx"):
        return Framework.ONNX
    if given is None:
        raise InvalidInputError(
            f"'{file_name}' does not end in .onnx, and {_ONNX_ONLY}; an ONNX file of another name needs "
            "framework 'onnx' besides",
            field="framework",
        )
    try:
        return Framework(str(given).lower())
    except ValueError:
        raise InvalidInputError(f"framework '{given}' is not known: {_ONNX_ONLY}", field="framework") from None


def framework_from_pb(value: int) -> Framework:
    """Convert a framework from the wire."""
    return {models_pb2.FRAMEWORK_ONNX: Framework.ONNX}[models_pb2.Framework.ValueType(value)]


def framework_to_pb(framework: Framework) -> "models_pb2.Framework.ValueType":
    """Convert a framework for the wire."""
    return {Framework.ONNX: models_pb2.FRAMEWORK_ONNX}[framework]


def batching_to_pb(
    message: models_pb2.ModelConfig, batch_config: str | None, dynamic: DynamicBatchingConfig | None
) -> None:
    """Put what a user gave into *message*; what was not given stays, except that one of the two ends the other.

    Raises:
        InvalidInputError: The settings are unknown or exclude each other.
    """
    if batch_config not in {None, _SINGLE}:
        raise InvalidInputError(f"batch_config must be 'single' or None, got {batch_config!r}", field="batch_config")
    if batch_config and dynamic:
        raise InvalidInputError("batch_config='single' and dynamic_batching_config exclude each other")
    if batch_config:
        message.batch_mode = models_pb2.BATCH_MODE_SINGLE
        message.ClearField("max_batch_delay_us")
        message.ClearField("max_batch_rows")
    if dynamic:
        message.ClearField("batch_mode")
        message.max_batch_delay_us = round(dynamic.max_batch_delay_ms * 1000)
        message.max_batch_rows = dynamic.max_batch_rows


def check_runtime(runtime: str | None, framework: Framework) -> None:
    """Check that a runtime that was named is the one that runs the model.

    Raises:
        InvalidInputError: It is another.
    """
    if runtime is not None and runtime != framework.value:
        raise InvalidInputError(
            f"runtime '{runtime}' does not run this model; it is run by '{framework.value}'", field="runtime"
        )


def fields_of_schema(schema: "pa.Schema | None", tensor_fields: Sequence[str] | None) -> Sequence[str] | None:
    """Return the incoming columns in order: as given, else the names of the input schema.

    Raises:
        InvalidInputError: They are no list of names.
    """
    if tensor_fields is None:
        return None if schema is None else list(schema.names)
    if isinstance(tensor_fields, (str, bytes)):
        raise InvalidInputError(
            f"tensor_fields must be a list of names, such as [{tensor_fields!r}], not one text", field="tensor_fields"
        )
    if not all(isinstance(name, str) for name in tensor_fields):
        raise InvalidInputError(f"tensor_fields must be names of columns, got {tensor_fields!r}", field="tensor_fields")
    return list(tensor_fields)


def check_output_schema(schema: "pa.Schema | None", signature: "Signature") -> None:
    """Check that an output schema names outputs that the model has.

    Raises:
        InvalidInputError: It names another.
    """
    known: Mapping[str, object] = {spec.name: spec for spec in signature.outputs}
    for name in [] if schema is None else schema.names:
        if name not in known:
            raise InvalidInputError(
                f"output_schema: the model has no output '{name}'; it has {', '.join(map(repr, known))}",
                field="output_schema",
            )
