"""BentoML with adaptive batching around ONNX Runtime. Run as a script, it starts BentoML on itself as a module."""

# Run in an environment of its own, whose libraries are not typed.
# ruff: noqa: ANN204, S606

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    model, input_name, port, folder = sys.argv[1:5]
    os.environ.update(BENCH_MODEL=model, BENCH_INPUT=input_name, BENTOML_HOME=folder, BENTOML_DO_NOT_TRACK="True")
    os.chdir(Path(__file__).parent)
    command = [sys.executable, "-m", "bentoml", "serve", "bentoml_ort:Bench", "--port", port, "--host", "127.0.0.1"]
    os.execv(sys.executable, command)

import bentoml
import numpy as np
import onnxruntime

TYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@bentoml.service(workers=1, traffic={"timeout": 60})
class Bench:
    """Runs batches."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)
        self._dtype = TYPES[self._session.get_inputs()[0].type]

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return the outputs of each row, side by side."""
        outputs = self._session.run(None, {os.environ["BENCH_INPUT"]: rows.astype(self._dtype)})
        return np.concatenate([output.reshape(len(rows), -1) for output in outputs], axis=1)
