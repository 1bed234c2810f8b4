"""Small real ONNX files, made on the spot."""

from collections.abc import Sequence

import onnx
from onnx import helper

Port = tuple[str, int, Sequence[int | str | None]]


def identity_model(given: Port, output: Port, *, opset: int = 17) -> bytes:
    """Return a file that passes one input through."""
    node = helper.make_node("Identity", [given[0]], [output[0]])
    return _file([node], [given], [output], opset=opset)


def linear_model(width: int, *, name_in: str = "x", name_out: str = "y", weight: float = 1.0) -> bytes:
    """Return a file that sums the columns of a row, each times *weight*."""
    weights = helper.make_tensor("w", onnx.TensorProto.FLOAT, [width, 1], [weight] * width)
    node = helper.make_node("MatMul", [name_in, "w"], [name_out])
    given: Port = (name_in, onnx.TensorProto.FLOAT, ["rows", width])
    output: Port = (name_out, onnx.TensorProto.FLOAT, ["rows", 1])
    return _file([node], [given], [output], opset=17, weights=[weights])


def _file(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    opset: int,
    weights: Sequence[onnx.TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        initializer=list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())
