"""LitServe around ONNX Runtime."""

# Run in an environment of its own, whose libraries are not typed.
# ruff: noqa: ANN001, ANN201, ANN204, ARG002

import sys

import litserve
import numpy as np
import onnxruntime

TYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class OnnxApi(litserve.LitAPI):
    """Runs one ONNX file."""

    def __init__(self, model):
        super().__init__()
        self._model = model

    def setup(self, device):
        """Open the file, in the worker."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self._model, options)
        self._input = self._session.get_inputs()[0]

    def decode_request(self, request):
        """Take the rows."""
        return np.asarray(request["rows"], dtype=TYPES[self._input.type])

    def predict(self, rows):
        """Run once."""
        return self._session.run(None, {self._input.name: rows})

    def encode_response(self, outputs):
        """Give lists."""
        return {"outputs": [output.tolist() for output in outputs]}


if __name__ == "__main__":
    model, _input, port, _folder = sys.argv[1:5]
    server = litserve.LitServer(OnnxApi(model), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
