"""The Open Inference Protocol by grpc.aio, with ONNX Runtime on the event loop. With --echo, no model is run."""

# Run in an environment of its own, whose libraries are not typed.
# ruff: noqa: ANN001, ANN201, ANN204, ARG002, N802

import asyncio
import sys

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Runs one model."""

    def __init__(self, model, *, echo):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options)
        self._echo = echo

    async def ModelInfer(self, request, context):
        """Run the model once."""
        given = request.inputs[0]
        response = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        if self._echo:
            outputs = {given.name: np.zeros((given.shape[0], 1), np.float32)}
        else:
            array = np.frombuffer(request.raw_input_contents[0], triton_to_np_dtype(given.datatype))
            results = self._session.run(None, {given.name: array.reshape(tuple(given.shape))})
            outputs = dict(zip((spec.name for spec in self._session.get_outputs()), results, strict=True))
        for name, array in outputs.items():
            output = response.outputs.add()
            output.name, output.datatype = name, np_to_triton_dtype(array.dtype)
            output.shape.extend(array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


async def main():
    """Serve until the process is ended."""
    model, _input, port, _folder, *flags = sys.argv[1:]
    server = grpc.aio.server()
    servicer = Servicer(model, echo="--echo" in flags)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
