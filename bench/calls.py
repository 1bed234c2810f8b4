"""Requests in every protocol, and how their replies are read."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import triton_to_np_dtype

from bench.workload import MODEL_NAME, Array, Workload

STREAM_MESSAGES = 100
"""Messages that are in flight together on a stream."""

_SERVICE = "/inference.GRPCInferenceService/"
_GRPC_HEADERS = {"content-type": "application/grpc", "te": "trailers"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server sent."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it goes over the wire."""

    path: str
    headers: dict[str, str]
    body: bytes
    """For gRPC one message, without its prefix."""
    read: Callable[[Reply], list[Array]]
    rows: int
    messages: int = 1
    is_grpc: bool = False

    def wire_body(self) -> bytes:
        """Return the HTTP body."""
        if not self.is_grpc:
            return self.body
        return (b"\0" + struct.pack(">I", len(self.body)) + self.body) * self.messages


CallBuilder = Callable[[Workload, int], Call]


def grpc_unary(workload: Workload, rows: int) -> Call:
    """Build a `ModelInfer` with raw contents."""
    return Call(
        path=_SERVICE + "ModelInfer",
        headers=_GRPC_HEADERS,
        body=_grpc_message(workload, rows),
        read=lambda reply: _grpc_outputs(service_pb2.ModelInferResponse.FromString(reply.body)),
        rows=rows,
        is_grpc=True,
    )


def grpc_stream(workload: Workload, rows: int) -> Call:
    """Build a `ModelStreamInfer` of many such requests."""

    def read(reply: Reply) -> list[Array]:
        message = service_pb2.ModelStreamInferResponse.FromString(reply.body)
        if message.error_message:
            raise ValueError(message.error_message)
        return _grpc_outputs(message.infer_response)

    return Call(
        path=_SERVICE + "ModelStreamInfer",
        headers=_GRPC_HEADERS,
        body=_grpc_message(workload, rows),
        read=read,
        rows=rows,
        messages=STREAM_MESSAGES,
        is_grpc=True,
    )


def rest_json(workload: Workload, rows: int) -> Call:
    """Build an Open Inference Protocol request with numbers."""
    batch = workload.batch(rows)
    tensor = _rest_tensor(workload, batch) | {"data": batch.ravel().tolist()}
    return Call(
        path=f"/v2/models/{MODEL_NAME}/infer",
        headers={"content-type": "application/json"},
        body=json.dumps({"inputs": [tensor]}).encode(),
        read=_rest_outputs,
        rows=rows,
    )


def rest_binary(workload: Workload, rows: int) -> Call:
    """Build an Open Inference Protocol request with its tensor behind the JSON."""
    batch = workload.batch(rows)
    raw = batch.tobytes()
    tensor = _rest_tensor(workload, batch) | {"parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Call(
        path=f"/v2/models/{MODEL_NAME}/infer",
        headers={"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))},
        body=head + raw,
        read=_rest_outputs,
        rows=rows,
    )


def plain_json(workload: Workload, rows: int) -> Call:
    """Build a request for frameworks with routes of their own: rows in, outputs out, as lists."""
    return Call(
        path="/predict",
        headers={"content-type": "application/json"},
        body=json.dumps({"rows": workload.batch(rows).tolist()}).encode(),
        read=_plain_outputs,
        rows=rows,
    )


def _plain_outputs(reply: Reply) -> list[Array]:
    given = json.loads(reply.body)
    return [np.asarray(output) for output in (given["outputs"] if isinstance(given, dict) else given)]


def _grpc_message(workload: Workload, rows: int) -> bytes:
    batch = workload.batch(rows)
    request = service_pb2.ModelInferRequest(model_name=MODEL_NAME)
    tensor = request.inputs.add()
    tensor.name, tensor.datatype = workload.input, workload.datatype
    tensor.shape.extend(batch.shape)
    request.raw_input_contents.append(batch.tobytes())
    return bytes(request.SerializeToString())


def _grpc_outputs(response: service_pb2.ModelInferResponse) -> list[Array]:
    if response.raw_output_contents:
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        return [_from_raw(raw, output.datatype, list(output.shape)) for output, raw in pairs]
    # A server may also answer with typed contents.
    return [
        np.asarray(next(values for _, values in output.contents.ListFields())).reshape(list(output.shape))
        for output in response.outputs
    ]


def _from_raw(raw: bytes, datatype: str, shape: list[int]) -> Array:
    return np.frombuffer(raw, dtype=triton_to_np_dtype(datatype)).reshape(shape)


def _rest_tensor(workload: Workload, batch: Array) -> dict[str, object]:
    return {"name": workload.input, "datatype": workload.datatype, "shape": list(batch.shape)}


def _rest_outputs(reply: Reply) -> list[Array]:
    length = reply.headers.get("inference-header-content-length")
    head, raw = (reply.body, b"") if length is None else (reply.body[: int(length)], reply.body[int(length) :])
    outputs: list[Array] = []
    for tensor in json.loads(head)["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs.append(np.asarray(tensor["data"]).reshape(tensor["shape"]))
        else:
            outputs.append(_from_raw(raw[:size], tensor["datatype"], tensor["shape"]))
            raw = raw[size:]
    return outputs
