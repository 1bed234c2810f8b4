"""Domain values with everything that a test does not care about filled in."""

from bettong_domain.models import BatchMode, Framework, Model, ModelConfig, ModelKey, Signature, TensorSpec


def spec(name: str, *shape: int, datatype: str = "FP32") -> TensorSpec:
    """Return an input or output."""
    return TensorSpec(name, datatype, shape)


def model(
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    config: ModelConfig | None = None,
    mode: BatchMode = BatchMode.ROWS,
    version: int = 1,
) -> Model:
    """Return a model version."""
    return Model(
        key=ModelKey(name, version),
        sha256=name.ljust(64, "0"),
        size_bytes=1,
        framework=Framework.ONNX,
        signature=Signature(inputs, outputs, mode),
        config=config or ModelConfig(),
        file_name=f"{name}.onnx",
        created_ms=1,
        runtime="onnxruntime 1.31.1",
    )
