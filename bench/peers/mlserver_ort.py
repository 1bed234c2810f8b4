"""MLServer with a runtime of its own kind around ONNX Runtime."""

# Run in an environment of its own, whose libraries are not typed.
# ruff: noqa: ANN001, ANN201

import asyncio
import socket
import sys

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


def free_port():
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OnnxModel(MLModel):
    """Runs one ONNX file."""

    async def load(self):
        """Open the file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self._names = [spec.name for spec in self._session.get_outputs()]
        return True

    async def predict(self, payload):
        """Run once."""
        tensor = payload.inputs[0]
        results = self._session.run(None, {tensor.name: NumpyCodec.decode_input(tensor)})
        outputs = [NumpyCodec.encode_output(name, array) for name, array in zip(self._names, results, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main():
    """Serve gRPC or REST on the port that was given."""
    model, _input, port, folder, *flags = sys.argv[1:]
    ports = {"grpc_port": free_port(), "http_port": free_port()}
    ports["http_port" if "--rest" in flags else "grpc_port"] = int(port)
    settings = Settings(
        host="127.0.0.1",
        metrics_endpoint=None,
        parallel_workers=0,
        metrics_dir=folder,
        debug=False,
        **ports,
    )
    server = MLServer(settings)
    model_settings = ModelSettings(name="bench", implementation=OnnxModel, parameters={"uri": model})
    await server.start(models_settings=[model_settings])


if __name__ == "__main__":
    asyncio.run(main())
