"""Triton with its Python backend (nvidia-pytriton), dynamic batching on."""

# Run in an environment of its own, whose libraries are not typed.
# ruff: noqa: ANN001, ANN003, ANN201, ANN202

import socket
import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

TYPES = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def free_port():
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    """Serve gRPC or REST on the port that was given."""
    model, _input, port, folder, *flags = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)

    def tensors(specs):
        shapes = [
            (spec, tuple(-1 if isinstance(dim, str) or dim is None else dim for dim in spec.shape[1:]))
            for spec in specs
        ]
        return [Tensor(name=spec.name, dtype=TYPES[spec.type], shape=shape) for spec, shape in shapes]

    @batch
    def run(**inputs):
        return session.run(None, inputs)

    ports = {"grpc_port": free_port(), "http_port": free_port()}
    ports["http_port" if "--rest" in flags else "grpc_port"] = int(port)
    config = TritonConfig(
        http_address="127.0.0.1", grpc_address="127.0.0.1", allow_metrics=False, log_verbose=0, **ports
    )
    with Triton(config=config, workspace=f"{folder}/triton") as server:
        server.bind(
            model_name="bench",
            infer_func=run,
            inputs=tensors(session.get_inputs()),
            outputs=tensors(session.get_outputs()),
            config=ModelConfig(
                max_batch_size=1024, batching=True, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        server.serve()


main()
