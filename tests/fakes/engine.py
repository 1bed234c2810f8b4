"""An engine in pure Python: reads signatures with the `onnx` package, remembers routes, runs nothing.

`tests/contract/test_model_engine.py` runs the same checks on it and on the real one.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx

from bettong.internal.v1 import snapshot_pb2
from bettong_domain.forwarding import ForwardingTable
from bettong_domain.models import BatchMode, Framework, ModelId, Signature, TensorSpec
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program
from bettong_kit.errors import BettongError, InvalidModelError

_DATATYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.STRING: "BYTES",
}


class FakeEngine:
    """Holds what a real engine would: loaded ids and served programs."""

    def __init__(self) -> None:
        self.loaded: dict[str, Signature] = {}
        self.loads = 0
        self.served: dict[str, Program] = {}
        self.forwarded: dict[str, Program] = {}
        self.hosted: dict[PipelineKey, Program] = {}
        self.table = ForwardingTable()
        self.refuse_table = False
        self.linked: set[str] = set()
        """Peers that links are up to."""
        self.unavailable: dict[str, str] = {}
        self.refuse: dict[str, BettongError] = {}
        """Errors to raise when a pipeline's program is served, by pipeline."""

    async def load_model(
        self, model_id: str, path: Path, _framework: Framework, mode: BatchMode | None, *, checked: bool = False
    ) -> Signature:
        """Read a file's signature."""
        del checked
        if model_id not in self.loaded:
            self.loads += 1
            self.loaded[model_id] = _signature(path, mode)
        return self.loaded[model_id]

    def unload_model(self, model_id: ModelId) -> None:
        """Forget an id."""
        self.loaded.pop(model_id, None)

    async def route(
        self,
        *,
        serve: Sequence[Program] = (),
        forward: Sequence[Program] = (),
        stop: Sequence[str] = (),
        unavailable: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Remember what is served."""
        for program in (*serve, *forward):
            if program.key.name in self.refuse:
                raise self.refuse[program.key.name]
        for program in serve:
            missing = program.model_ids - self.loaded.keys()
            if missing:
                raise BettongError(f"models are not loaded: {sorted(missing)}")
        for name in stop:
            self._forget(name)
        self.unavailable |= dict(unavailable)
        for program in (*serve, *forward):
            self._forget(program.key.name)
        self.served |= {program.key.name: program for program in serve}
        self.forwarded |= {program.key.name: program for program in forward}

    def _forget(self, name: str) -> None:
        for known in (self.served, self.forwarded, self.unavailable):
            known.pop(name, None)

    async def host(self, *, serve: Sequence[Program] = (), stop: Sequence[PipelineKey] = ()) -> None:
        """Remember what is run for others."""
        for program in serve:
            if program.key.name in self.refuse:
                raise self.refuse[program.key.name]
            missing = program.model_ids - self.loaded.keys()
            if missing:
                raise BettongError(f"models are not loaded: {sorted(missing)}")
        self.hosted |= {program.key: program for program in serve}
        for key in stop:
            self.hosted.pop(key, None)

    async def forward_to(self, table: ForwardingTable) -> None:
        """Remember where calls go."""
        if self.refuse_table:
            raise BettongError("an address cannot be read")
        self.table = table

    def forwarder_status(self) -> snapshot_pb2.ForwarderStatus:
        """Return whom links are up to."""
        return snapshot_pb2.ForwarderStatus(peers=[snapshot_pb2.PeerStatus(name=name, links=1) for name in self.linked])

    async def wait_answered(self, _pipeline: str, _timeout_s: float) -> bool:
        """Return at once, because nothing is ever in flight."""
        return True

    def runtimes(self) -> dict[str, str]:
        """Return what a real engine would call its runtime."""
        return {"onnxruntime": "1.31.1"}


def _signature(path: Path, mode: BatchMode | None) -> Signature:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # the package raises errors of three libraries for bad files
        raise InvalidModelError(f"not a model: {error}") from error
    weights = {weight.name for weight in model.graph.initializer}
    inputs = tuple(_spec(given) for given in model.graph.input if given.name not in weights)
    outputs = tuple(map(_spec, model.graph.output))
    rows = all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
    return Signature(inputs, outputs, mode or (BatchMode.ROWS if rows else BatchMode.WHOLE))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return TensorSpec(value.name, _DATATYPES[tensor.elem_type], shape)
