"""A small model in the shape of card-transaction fraud: 29 features, one score. Written anew wherever it is needed."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES = 29
HIDDEN = 10
INPUT = "features"
OUTPUT = "score"
SEED = 29

# What every supported ONNX Runtime reads.
OPSET = 13
IR_VERSION = 8

Floats = NDArray[np.float32]


def write_model(path: Path) -> Path:
    """Write the model to *path* and return it."""
    random = np.random.default_rng(SEED)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(0, 0.4, shape).astype(np.float32), name)

    weights = [weight("w1", FEATURES, HIDDEN), weight("b1", HIDDEN), weight("w2", HIDDEN, 1), weight("b2", 1)]
    nodes = [
        helper.make_node("MatMul", [INPUT, "w1"], ["h1"]),
        helper.make_node("Add", ["h1", "b1"], ["h2"]),
        helper.make_node("Relu", ["h2"], ["h3"]),
        helper.make_node("MatMul", ["h3", "w2"], ["o1"]),
        helper.make_node("Add", ["o1", "b2"], ["o2"]),
        helper.make_node("Sigmoid", ["o2"], [OUTPUT]),
    ]
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", FEATURES])]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", 1])]
    graph = helper.make_graph(nodes, "card", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", OPSET)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())
    return path


def make_rows(count: int) -> Floats:
    """Return *count* rows of made-up features, the same ones every time."""
    return np.random.default_rng(SEED + 1).normal(0, 1, (count, FEATURES)).astype(np.float32)
