"""ONNX files with a known answer, made on the spot for tests of the whole product."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Port: TypeAlias = tuple[str, int, Sequence[int | str]]

# Every dtype of the Open Inference Protocol, by its name, with the ONNX element type.
ONNX_TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def identity(dtype: str, width: int = 4) -> bytes:
    """Return a file that gives back `x`, rows of a dtype, as `y`."""
    node = helper.make_node("Identity", ["x"], ["y"])
    kind = ONNX_TYPES[dtype]
    return _file([node], [("x", kind, ["rows", width])], [("y", kind, ["rows", width])])


def tagged(factor: float = 1) -> bytes:
    """Return a file whose output says which request and row each row came from.

    `tag` INT64 [rows, 2] is given back unchanged as `echo`; `x` FP32 [rows, 3] times a matrix is `y` FP32 [rows, 4];
    `sum` FP32 [rows, 1] is the sum of a row of `x`.

    Args:
        factor: What `y` is multiplied by, which tells versions apart.
    """
    nodes = [
        helper.make_node("Identity", ["tag"], ["echo"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
    ]
    weights = [
        numpy_helper.from_array((TAGGED_WEIGHTS * factor).astype(np.float32), "w"),
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
    ]
    inputs: list[Port] = [("tag", TensorProto.INT64, ["rows", 2]), ("x", TensorProto.FLOAT, ["rows", 3])]
    outputs: list[Port] = [
        ("echo", TensorProto.INT64, ["rows", 2]),
        ("y", TensorProto.FLOAT, ["rows", 4]),
        ("sum", TensorProto.FLOAT, ["rows", 1]),
    ]
    return _file(nodes, inputs, outputs, weights)


TAGGED_WEIGHTS = np.array([[1, 0, 2, -1], [0, 1, 3, 0.5], [1, 1, -4, 0.25]], np.float32)

TABLE_ROWS = 1_000


def poisonable() -> bytes:
    """Return a file that looks `x` INT64 [rows, 1] up in a table, as `y` FP32 [rows, 1]: half of the index.

    The table has `TABLE_ROWS` entries. A run fails as a whole when any index is outside.
    """
    table = np.arange(TABLE_ROWS, dtype=np.float32) / 2
    node = helper.make_node("Gather", ["table", "x"], ["y"], axis=0)
    return _file(
        [node],
        [("x", TensorProto.INT64, ["rows", 1])],
        [("y", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(table, "table")],
    )


def entangled() -> bytes:
    """Return a file whose rows are not independent: `y` is `x` FP32 [rows, 1] without the mean of all rows given."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return _file(nodes, [("x", TensorProto.FLOAT, ["rows", 1])], [("y", TensorProto.FLOAT, ["rows", 1])])


def product() -> bytes:
    """Return a file of two inputs that have different numbers of rows: `y` is `a` FP32 [m, 2] times `b` FP32 [2, n]."""
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    inputs: list[Port] = [("a", TensorProto.FLOAT, ["m", 2]), ("b", TensorProto.FLOAT, [2, "n"])]
    return _file([node], inputs, [("y", TensorProto.FLOAT, ["m", "n"])])


def ragged(dtype: str = "FP32") -> bytes:
    """Return a file that gives back `x` [rows, free] as `y`, and the length of its rows as `length` INT64 [rows]."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["width"]),
        helper.make_node("Expand", ["width", "rows"], ["length"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([value], np.int64), name) for value, name in enumerate(("zero", "one", "two"))
    ]
    outputs: list[Port] = [
        ("y", ONNX_TYPES[dtype], ["rows", "free"]),
        ("length", TensorProto.INT64, ["rows"]),
    ]
    return _file(nodes, [("x", ONNX_TYPES[dtype], ["rows", "free"])], outputs, weights)


def fixed_rows(rows: int = 1) -> bytes:
    """Return a file that takes and gives so many rows and no others."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return _file([node], [("x", TensorProto.FLOAT, [rows, 2])], [("y", TensorProto.FLOAT, [rows, 2])])


def scaled(factor: float) -> bytes:
    """Return a file that gives `x` FP32 [rows, 1] times a number as `y`."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    weight = numpy_helper.from_array(np.array([factor], np.float32), "factor")
    return _file([node], [("x", TensorProto.FLOAT, ["rows", 1])], [("y", TensorProto.FLOAT, ["rows", 1])], [weight])


def slow(turns: int, size: int = 128) -> bytes:
    """Return a file that gives back `x` FP32 [rows, 1] as `y`, after much work for each row.

    Args:
        turns: How often a matrix is multiplied; time is proportional to it and to the rows.
        size: Rows and columns of that matrix.
    """
    eye = np.eye(size, dtype=np.float32)
    constants = [
        numpy_helper.from_array(eye, "eye"),
        numpy_helper.from_array(np.array(turns, np.int64), "turns"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "cube"),
        numpy_helper.from_array(np.ones([size, size], np.float32), "ones"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
    ]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "eye"], ["after"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Reshape", ["x", "cube"], ["x3"]),
        helper.make_node("Mul", ["x3", "ones"], ["wide"]),
        helper.make_node("Loop", ["turns", "yes", "wide"], ["turned"], body=body),
        helper.make_node("ReduceMean", ["turned", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["y"]),
    ]
    return _file(
        nodes, [("x", TensorProto.FLOAT, ["rows", 1])], [("y", TensorProto.FLOAT, ["rows", 1])], constants, opset=18
    )


def _file(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 17,
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
