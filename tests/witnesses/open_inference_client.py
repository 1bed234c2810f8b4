"""Ask a server everything that open-inference-grpc knows, and print what it says as JSON.

A program of its own because the package registers the same protobuf names as other clients do, and a process can have one.
"""

import json
import sys
from typing import Any

import grpc
from open_inference.grpc import protocol, service


def ask(address: str, model: str) -> dict[str, Any]:
    with grpc.insecure_channel(address) as channel:
        stub = service.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        metadata = stub.ModelMetadata(protocol.ModelMetadataRequest(name=model))
        try:
            stub.ModelMetadata(protocol.ModelMetadataRequest(name="nothing-here"))
            unknown = "OK"
        except grpc.RpcError as error:
            unknown = error.code().name
        return {
            "live": stub.ServerLive(protocol.ServerLiveRequest()).live,
            "ready": stub.ServerReady(protocol.ServerReadyRequest()).ready,
            "model_ready": stub.ModelReady(protocol.ModelReadyRequest(name=model)).ready,
            "server": stub.ServerMetadata(protocol.ServerMetadataRequest()).name,
            "inputs": [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs],
            "typed": infer(stub, model, typed=True),
            "raw": infer(stub, model, typed=False),
            "unknown": unknown,
        }


def infer(stub: Any, model: str, *, typed: bool) -> list[Any]:
    request = protocol.ModelInferRequest(model_name=model, id="o")
    request.outputs.add(name="y")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    if typed:
        tensor.contents.fp32_contents.extend([1, 2, 3, 4])
    else:
        request.raw_input_contents.append(bytes.fromhex("0000803f000000400000404000008040"))
    reply = stub.ModelInfer(request)
    return [reply.id, reply.outputs[0].name, [raw.hex() for raw in reply.raw_output_contents]]


if __name__ == "__main__":
    json.dump(ask(*sys.argv[1:]), sys.stdout)
