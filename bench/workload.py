"""What every server is asked to run: a model, rows, and what the model gives for them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench import card_model

MODEL_NAME = "bench"
MOST_ROWS = 1_024

# ONNX Runtime's names of element types, and the Open Inference Protocol's.
_TYPES: dict[str, tuple[str, type[np.generic]]] = {
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(double)": ("FP64", np.float64),
    "tensor(float)": ("FP32", np.float32),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
}

Array = NDArray[Any]


class WorkloadError(Exception):
    """The model or the rows can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A model with rows for its one input."""

    path: Path
    input: str
    datatype: str
    rows: Array
    session: onnxruntime.InferenceSession

    def batch(self, rows: int) -> Array:
        """Return the first *rows* rows; they begin again where there are fewer."""
        return np.resize(self.rows, (rows, *self.rows.shape[1:]))

    def expected(self, rows: int) -> list[Array]:
        """Return what the model gives for :meth:`batch`, by ONNX Runtime alone."""
        return [np.asarray(output) for output in self.session.run(None, {self.input: self.batch(rows)})]


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open the model with one thread, as every server here runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def card_workload(folder: Path) -> Workload:
    """Write the small fraud model into *folder*, with made-up rows."""
    path = card_model.write_model(folder / "card.onnx")
    rows = card_model.make_rows(MOST_ROWS)
    return Workload(path=path, input=card_model.INPUT, datatype="FP32", rows=rows, session=open_session(path))


def file_workload(path: Path, *, input_name: str, rows: Path) -> Workload:
    """Use the model at *path* with *rows*, a file of JSON records or a numpy array.

    Raises:
        WorkloadError: The file's columns or the model's inputs do not fit.
    """
    session = open_session(path)
    inputs = {spec.name: spec.type for spec in session.get_inputs()}
    if list(inputs) != [input_name]:
        raise WorkloadError(f"the model's inputs are {sorted(inputs)}; one input '{input_name}' is needed")
    if inputs[input_name] not in _TYPES:
        raise WorkloadError(f"input '{input_name}' is a {inputs[input_name]}, which is not measured")
    datatype, dtype = _TYPES[inputs[input_name]]
    array = np.asarray(_read_rows(rows, input_name), dtype=dtype)
    return Workload(path=path, input=input_name, datatype=datatype, rows=array, session=session)


def _read_rows(path: Path, column: str) -> Array:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    records = json.loads(path.read_text())
    # Under the input's name, or else in the only column there is.
    names = list(records[0])
    if column not in names and len(names) != 1:
        raise WorkloadError(f"{path.name} has no column '{column}' but {names}")
    name = column if column in names else names[0]
    return np.asarray([record[name] for record in records[:MOST_ROWS]])
