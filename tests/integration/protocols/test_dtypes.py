"""Every dtype of the Open Inference Protocol through every way of writing it, unchanged."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from servers import Server

NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": ml_dtypes.bfloat16,
}
CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
TEXTS = [b"", b"plain", "größe ✓".encode(), b"\x00\xff binary", b"a" * 70_000, b" ", b"\n", b"0"]
FLOATS = ("FP16", "FP32", "FP64", "BF16")


def values_of(dtype: str) -> np.ndarray:
    """Return two rows of four values, with the extremes of the type among them."""
    kind = NUMPY_TYPES[dtype]
    if dtype == "BOOL":
        return np.array([[True, False, True, True], [False] * 4])
    if dtype in FLOATS:
        info: Any = ml_dtypes.finfo(kind)  # type: ignore[no-untyped-call]
        edges = [0.0, -0.0, float(info.max), float(info.min), float(info.tiny), float(info.eps), 1.5, -2.25]
        return np.array(edges, kind).reshape(2, 4)
    limits = np.iinfo(kind)
    return np.array([limits.min, limits.max, 0, 1, 2, limits.max - 1, 100, limits.max // 2], kind).reshape(2, 4)


def elements(raw: bytes) -> list[bytes]:
    """Split the raw form of BYTES: a little-endian length before each element."""
    found = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found


def joined(texts: list[bytes]) -> bytes:
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


@pytest.fixture(scope="session")
def stub(server: Server) -> Iterator[Any]:
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    with grpc.insecure_channel(server.data) as channel:
        yield GRPCInferenceServiceStub(channel)


def infer_request(dtype: str, **fields: object) -> Any:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    request = ModelInferRequest(model_name=f"identity-{dtype.lower()}")
    request.inputs.add(name="x", datatype=dtype, shape=[2, 4], **fields)
    return request


@pytest.mark.parametrize("dtype", NUMPY_TYPES)
def test_raw_values_come_back_bit_by_bit(stub: Any, dtype: str) -> None:
    """Extremes, zeros of both signs and subnormals too."""
    raw = values_of(dtype).tobytes()
    request = infer_request(dtype)
    request.raw_input_contents.append(raw)
    response = stub.ModelInfer(request)
    assert list(response.raw_output_contents) == [raw]
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", dtype, [2, 4])


@pytest.mark.parametrize("dtype", FLOATS)
def test_not_a_number_and_infinity_pass_in_raw_form(stub: Any, dtype: str) -> None:
    """They are values like others to a model that takes them."""
    raw = np.array([np.nan, np.inf, -np.inf, 0] * 2, NUMPY_TYPES[dtype]).tobytes()
    request = infer_request(dtype)
    request.raw_input_contents.append(raw)
    assert list(stub.ModelInfer(request).raw_output_contents) == [raw]


@pytest.mark.parametrize("dtype", CONTENTS)
def test_typed_values_are_the_same_as_raw_ones(stub: Any, dtype: str) -> None:
    """Each dtype in the field that the protocol has for it."""
    values = values_of(dtype)
    response = stub.ModelInfer(infer_request(dtype, contents={CONTENTS[dtype]: values.ravel().tolist()}))
    assert list(response.raw_output_contents) == [values.tobytes()]


def test_texts_pass_in_raw_form(stub: Any) -> None:
    """Empty ones, long ones, and bytes that are no text at all."""
    request = infer_request("BYTES")
    request.raw_input_contents.append(joined(TEXTS))
    (raw,) = stub.ModelInfer(request).raw_output_contents
    assert elements(raw) == TEXTS


def test_texts_pass_as_typed_values(stub: Any) -> None:
    """The same."""
    (raw,) = stub.ModelInfer(infer_request("BYTES", contents={"bytes_contents": TEXTS})).raw_output_contents
    assert elements(raw) == TEXTS


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_half_floats_have_no_typed_form(stub: Any, dtype: str) -> None:
    """The protocol has no field for them, so whatever field is used is refused."""
    with pytest.raises(grpc.RpcError, match="raw_input_contents") as caught:
        stub.ModelInfer(infer_request(dtype, contents={"fp32_contents": [0.0] * 8}))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("dtype", "field", "value"),
    [
        ("INT8", "int_contents", 128),
        ("INT8", "int_contents", -129),
        ("INT16", "int_contents", 1 << 15),
        ("UINT8", "uint_contents", 256),
        ("UINT16", "uint_contents", 1 << 16),
    ],
)
def test_typed_values_out_of_range_are_refused(stub: Any, dtype: str, field: str, value: int) -> None:
    """They are not cut off; the element is named."""
    with pytest.raises(grpc.RpcError, match=f"(?s)'x'.*element 3.*{value}") as caught:
        stub.ModelInfer(infer_request(dtype, contents={field: [0, 0, 0, value, 0, 0, 0, 0]}))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("extra", [-1, 1, -8, 8])
@pytest.mark.parametrize("dtype", ["INT8", "FP32", "FP64", "BYTES"])
def test_raw_bytes_that_do_not_fill_the_shape_are_refused(stub: Any, dtype: str, extra: int) -> None:
    """Too few or too many, by one byte or by an element."""
    raw = joined([b"abcd"] * 8) if dtype == "BYTES" else values_of(dtype).tobytes()
    request = infer_request(dtype)
    request.raw_input_contents.append(raw[:extra] if extra < 0 else raw + b"\x00" * extra)
    with pytest.raises(grpc.RpcError, match="'x'") as caught:
        stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("count", [7, 9, 0])
def test_typed_values_that_do_not_fill_the_shape_are_refused(stub: Any, count: int) -> None:
    """Too few, too many or none."""
    with pytest.raises(grpc.RpcError, match="'x'") as caught:
        stub.ModelInfer(infer_request("FP32", contents={"fp32_contents": [1.0] * count}))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_typed_values_beside_raw_ones_are_refused(stub: Any) -> None:
    """The protocol allows one of the two."""
    request = infer_request("FP32", contents={"fp32_contents": [1.0] * 8})
    request.raw_input_contents.append(bytes(32))
    with pytest.raises(grpc.RpcError, match="raw_input_contents") as caught:
        stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "shape",
    [
        [-1, 4],
        [2, -4],
        [1 << 62, 4],
        [1 << 33, 1 << 33],
        [(1 << 63) - 1, 4],
        [2, 4, 1],
        [],
        [8],
        [0, 4],
    ],
)
def test_impossible_shapes_are_refused(stub: Any, shape: list[int]) -> None:
    """Negative, overflowing, of the wrong rank, or with no rows."""
    request = infer_request("FP32")
    request.inputs[0].ClearField("shape")
    request.inputs[0].shape.extend(shape)
    request.raw_input_contents.append(b"" if shape == [0, 4] else bytes(32))
    with pytest.raises(grpc.RpcError, match="'x'") as caught:
        stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unknown_dtype_is_refused_by_name(stub: Any) -> None:
    """Case matters, as the protocol's names are upper case."""
    request = infer_request("FP32")
    request.inputs[0].datatype = "fp32"
    request.raw_input_contents.append(bytes(32))
    with pytest.raises(grpc.RpcError, match="(?s)'x'.*fp32") as caught:
        stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def post(server: Server, dtype: str, data: object, *, shape: tuple[int, ...] = (2, 4)) -> tuple[int, Any]:
    """Send one tensor as JSON and return the status with the body."""
    import httpx

    body = {"inputs": [{"name": "x", "datatype": dtype, "shape": shape, "data": data}]}
    reply = httpx.post(
        f"{server.url}/v2/models/identity-{dtype.lower()}/infer",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )
    return reply.status_code, reply.json()


JSON_TYPES = [dtype for dtype in NUMPY_TYPES if dtype not in {"FP16", "BF16"}]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("dtype", JSON_TYPES)
def test_json_numbers_come_back_exactly(server: Server, dtype: str, nested: bool) -> None:
    """64-bit integers to the last digit, floats by their shortest text; nested or flat."""
    values = values_of(dtype)
    status, body = post(server, dtype, values.tolist() if nested else values.ravel().tolist())
    assert status == 200, body
    (output,) = body["outputs"]
    assert (output["datatype"], output["shape"]) == (dtype, [2, 4])
    assert np.array(output["data"], NUMPY_TYPES[dtype]).tobytes() == values.tobytes()


def test_json_texts_come_back(server: Server) -> None:
    """With every kind of escape."""
    texts = ["", "plain", "größe ✓", 'quo"te \\', "\n\t\x01", "😀", "a" * 10_000, "/"]
    status, body = post(server, "BYTES", texts)
    assert status == 200, body
    assert body["outputs"][0]["data"] == texts


@pytest.mark.parametrize(
    ("dtype", "value", "match"),
    [
        ("INT8", 128, "128"),
        ("UINT8", -1, "-1"),
        ("INT64", 1 << 63, "9223372036854775808"),
        ("INT32", 1.5, "1.5"),
        ("INT32", "1", ""),
        ("INT32", True, ""),
        ("BOOL", 2, ""),
        ("BOOL", "true", ""),
        ("FP32", None, "null"),
        ("FP32", "1.0", ""),
        ("FP32", [[1.0]], ""),
        ("BYTES", 1, ""),
        ("BYTES", None, "null"),
    ],
)
def test_json_values_of_another_kind_are_refused(server: Server, dtype: str, value: object, match: str) -> None:
    """By name and place; nothing is cut off or guessed."""
    filler: object = "a" if dtype == "BYTES" else dtype == "BOOL" or 1
    filler = 1 if dtype not in {"BYTES", "BOOL"} else filler
    status, body = post(server, dtype, [filler] * 3 + [value] + [filler] * 4)
    assert status == 400, body
    assert "'x'" in body["error"]
    assert match in body["error"]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_json_has_no_literals_for_what_is_not_finite(server: Server, text: str) -> None:
    """They are no JSON, so they are refused as such."""
    status, body = post(server, "FP32", [float(text.lower().replace("infinity", "inf"))] * 8)
    assert status == 400, body


def test_a_reply_that_is_not_finite_is_still_json(server: Server) -> None:
    """Not a number and infinities are null, or texts, but never make the body unreadable."""
    import httpx

    raw = np.array([np.nan, np.inf, -np.inf, 1] * 2, np.float32).tobytes()
    head = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": len(raw)}},
        ]
    }
    text = json.dumps(head).encode()
    reply = httpx.post(
        f"{server.url}/v2/models/identity-fp32/infer",
        content=text + raw,
        headers={"inference-header-content-length": str(len(text))},
    )
    assert reply.status_code == 200, reply.text

    def no_literal(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    body = json.loads(reply.text, parse_constant=no_literal)
    assert body["outputs"][0]["data"][3] == 1


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_half_floats_in_json(server: Server, dtype: str) -> None:
    """They are taken as numbers or refused with the way to send them; never wrong."""
    status, body = post(server, dtype, [0.5, 1.0, 2.0, -4.0] * 2)
    if status == 200:
        output = body["outputs"][0]
        assert output["data"] == [0.5, 1.0, 2.0, -4.0] * 2
    else:
        assert status == 400
        assert "binary" in body["error"]


@pytest.mark.parametrize("dtype", [*NUMPY_TYPES, "BYTES"])
def test_binary_tensors_over_http_come_back_bit_by_bit(server: Server, dtype: str) -> None:
    """Both directions in the binary extension."""
    import httpx

    raw = joined(TEXTS) if dtype == "BYTES" else values_of(dtype).tobytes()
    head = {
        "id": "b",
        "inputs": [{"name": "x", "datatype": dtype, "shape": [2, 4], "parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(head).encode()
    reply = httpx.post(
        f"{server.url}/v2/models/identity-{dtype.lower()}/infer",
        content=text + raw,
        headers={"inference-header-content-length": str(len(text))},
    )
    assert reply.status_code == 200, reply.text
    at = int(reply.headers["inference-header-content-length"])
    answer = json.loads(reply.content[:at])
    assert answer["outputs"][0]["parameters"]["binary_data_size"] == len(reply.content) - at
    assert reply.content[at:] == raw
