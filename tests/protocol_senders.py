"""One request in every protocol of the data port, written with other people's libraries where there are any.

All senders take and give the same: a server, a pipeline, input columns by name; output columns by name.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
from servers import Server

Columns = Mapping[str, np.ndarray]
Sender = Callable[[Server, str, Columns], dict[str, np.ndarray]]

TIMEOUT_S = 30
NUMPY_TYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32}
OIP_TYPES = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
TYPED_FIELDS = {"FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "INT32": "int_contents"}


def grpc_raw(server: Server, pipeline: str, columns: Columns) -> dict[str, np.ndarray]:
    """Use tritonclient, which sends raw bytes."""
    from tritonclient.grpc import InferenceServerClient, InferInput

    inputs = []
    for name, values in columns.items():
        inputs.append(InferInput(name, list(values.shape), OIP_TYPES[values.dtype]))
        inputs[-1].set_data_from_numpy(values)
    with InferenceServerClient(server.data) as client:
        result = client.infer(pipeline, inputs)
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def grpc_typed(server: Server, pipeline: str, columns: Columns) -> dict[str, np.ndarray]:
    """Use generated stubs and the typed fields of the protocol."""
    import grpc
    from tritonclient.grpc.service_pb2 import ModelInferRequest
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    request = ModelInferRequest(model_name=pipeline)
    for name, values in columns.items():
        dtype = OIP_TYPES[values.dtype]
        contents = {TYPED_FIELDS[dtype]: values.ravel().tolist()}
        request.inputs.add(name=name, datatype=dtype, shape=values.shape, contents=contents)
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.data, limits) as channel:
        reply = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT_S)
    raw = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {out.name: np.frombuffer(data, NUMPY_TYPES[out.datatype]).reshape(out.shape) for out, data in raw}


def rest_json(server: Server, pipeline: str, columns: Columns) -> dict[str, np.ndarray]:
    """Use plain JSON."""
    inputs = [
        {"name": name, "datatype": OIP_TYPES[values.dtype], "shape": values.shape, "data": values.tolist()}
        for name, values in columns.items()
    ]
    reply = httpx.post(f"{server.url}/v2/models/{pipeline}/infer", json={"inputs": inputs}, timeout=TIMEOUT_S)
    assert reply.status_code == 200, reply.text
    return {
        out["name"]: np.array(out["data"], NUMPY_TYPES[out["datatype"]]).reshape(out["shape"])
        for out in reply.json()["outputs"]
    }


def rest_binary(server: Server, pipeline: str, columns: Columns) -> dict[str, np.ndarray]:
    """Use tritonclient with the binary tensor extension in both directions."""
    from tritonclient.http import InferenceServerClient, InferInput

    inputs = []
    for name, values in columns.items():
        inputs.append(InferInput(name, list(values.shape), OIP_TYPES[values.dtype]))
        inputs[-1].set_data_from_numpy(values, binary_data=True)
    with InferenceServerClient(server.data, network_timeout=TIMEOUT_S) as client:
        result = client.infer(pipeline, inputs)
    return {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}


JSON_TYPE = "application/json"
FILE_TYPE = "application/vnd.apache.arrow.file"
STREAM_TYPE = "application/vnd.apache.arrow.stream"


def native(server: Server, pipeline: str, body: bytes, given: str, wanted: str, **query: str) -> bytes:
    """Post a frame and return the reply's body."""
    reply = httpx.post(
        f"{server.url}/v1/pipelines/{pipeline}/infer",
        content=body,
        params=query,
        headers={"content-type": given, "accept": wanted},
        timeout=TIMEOUT_S,
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].split(";")[0] == wanted
    return reply.content


def native_json(server: Server, pipeline: str, columns: Columns) -> dict[str, np.ndarray]:
    """Use pandas records, nested as the reply is without a separator."""
    records = pd.DataFrame({name: values.tolist() for name, values in columns.items()}).to_dict("records")
    reply = json.loads(native(server, pipeline, json.dumps(records).encode(), JSON_TYPE, JSON_TYPE))
    assert [set(row) >= {"time", "in", "out", "anomaly"} for row in reply] == [True] * len(records)
    return {name: np.array([row["out"][name] for row in reply]) for name in reply[0]["out"]}


def arrow_table(columns: Columns) -> pa.Table:
    """Make a table with a list of fixed size in each row."""
    arrays = {}
    for name, values in columns.items():
        arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values[0].size)
    return pa.table(arrays)


def arrow_bytes(table: pa.Table, kind: str) -> bytes:
    """Write a table as a file or as a stream."""
    sink = pa.BufferOutputStream()
    open_writer: Any = {FILE_TYPE: pa.ipc.new_file, STREAM_TYPE: pa.ipc.new_stream}[kind]
    with open_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def arrow_read(body: bytes, kind: str) -> pa.Table:
    """Read a table from a file or from a stream."""
    reader: Any = {FILE_TYPE: pa.ipc.open_file, STREAM_TYPE: pa.ipc.open_stream}[kind]
    table: pa.Table = reader(body).read_all()
    return table


def native_arrow(kind_in: str, kind_out: str) -> Sender:
    """Return a sender of one Arrow format that asks for the other or the same."""

    def send(server: Server, pipeline: str, columns: Columns) -> dict[str, np.ndarray]:
        body = native(server, pipeline, arrow_bytes(arrow_table(columns), kind_in), kind_in, kind_out)
        table = arrow_read(body, kind_out)
        outputs = [name for name in table.column_names if name.startswith("out.")]
        return {name.removeprefix("out."): np.array(table[name].to_pylist()) for name in outputs}

    return send


SENDERS: dict[str, Sender] = {
    "grpc-raw": grpc_raw,
    "grpc-typed": grpc_typed,
    "rest-json": rest_json,
    "rest-binary": rest_binary,
    "native-json": native_json,
    "native-arrow-file": native_arrow(FILE_TYPE, FILE_TYPE),
    "native-arrow-stream": native_arrow(STREAM_TYPE, STREAM_TYPE),
    "native-arrow-file-to-stream": native_arrow(FILE_TYPE, STREAM_TYPE),
}
