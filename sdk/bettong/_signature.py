from dataclasses import dataclass

from bettong.v1 import models_pb2


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model or pipeline.

    Attributes:
        name: Name, as the model file spells it.
        datatype: Open Inference Protocol name of the element type: "FP32", "INT64", "BYTES", …
        shape: Dimensions; -1 is a free one. The first counts rows.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        dimensions = ",".join("?" if size < 0 else str(size) for size in self.shape)
        return f"{self.name}: {self.datatype}[{dimensions}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs, in the model's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) → ({', '.join(map(str, self.outputs))})"


def signature_from_pb(message: models_pb2.Signature) -> Signature:
    """Convert a signature from the wire."""
    return Signature(
        inputs=tuple(_spec_from_pb(spec) for spec in message.inputs),
        outputs=tuple(_spec_from_pb(spec) for spec in message.outputs),
    )


def _spec_from_pb(message: models_pb2.TensorSpec) -> TensorSpec:
    return TensorSpec(message.name, message.datatype, tuple(message.shape))
