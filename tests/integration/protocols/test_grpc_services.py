"""Health and reflection as other people's clients use them."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import onnx_files
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from servers import Server, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
INFERENCE = "inference.GRPCInferenceService"
WAIT_S = 10


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.data) as opened:
        yield opened


@pytest.fixture
def health(channel: grpc.Channel) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(channel)


@pytest.mark.parametrize("service", ["", INFERENCE, "tagged"])
def test_check_says_serving(health: health_pb2_grpc.HealthStub, service: str) -> None:
    """For the server, the inference service, and a pipeline by its name."""
    assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING


def test_check_of_something_unknown_is_not_found(health: health_pb2_grpc.HealthStub) -> None:
    """As the protocol of health checks says."""
    with pytest.raises(grpc.RpcError, match="nothing-here") as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nothing-here"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_list_has_every_service_with_its_status(health: health_pb2_grpc.HealthStub) -> None:
    """The server itself under the empty name."""
    statuses = {name: reply.status for name, reply in health.List(health_pb2.HealthListRequest()).statuses.items()}
    assert {"": SERVING, INFERENCE: SERVING, "tagged": SERVING}.items() <= statuses.items()


def test_watch_follows_unload_and_load(server: Server, channel: grpc.Channel, passing: str) -> None:
    """One message for each change, beginning with how it is."""
    from tritonclient.grpc import InferenceServerClient

    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=passing), timeout=WAIT_S)
    assert next(watch).status == SERVING
    with InferenceServerClient(server.data) as client:
        client.unload_model(passing)
        assert next(watch).status in {NOT_SERVING, SERVICE_UNKNOWN}
        client.load_model(passing)
        seen = [next(watch).status]
        while seen[-1] != SERVING:
            seen.append(next(watch).status)
    assert set(seen[:-1]) <= {NOT_SERVING, SERVICE_UNKNOWN}
    watch.cancel()


def test_watch_waits_for_what_does_not_exist_yet(
    server: Server, health: health_pb2_grpc.HealthStub, tmp_path: Path
) -> None:
    """SERVICE_UNKNOWN first, then its status once it is deployed."""
    watch = health.Watch(health_pb2.HealthCheckRequest(service="yet-to-come"), timeout=WAIT_S)
    assert next(watch).status == SERVICE_UNKNOWN
    server.deploy("yet-to-come", onnx_files.identity("FP32"), tmp_path)
    seen = [next(watch).status]
    while seen[-1] != SERVING:
        seen.append(next(watch).status)
    watch.cancel()


@pytest.mark.slow
def test_watchers_are_told_of_a_drain(tmp_path: Path) -> None:
    """NOT_SERVING comes, the watch ends, and it does not hold the drain up."""
    with serving(tmp_path / "data", lanes=1) as server, grpc.insecure_channel(server.data) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert next(watch).status == SERVING
        server.stop()
        assert [reply.status for reply in watch] == [NOT_SERVING]


@pytest.mark.slow
async def test_a_thousand_watchers_all_hear_of_a_change(server: Server, passing: str) -> None:
    """Each on its own stream of few connections."""
    from tritonclient.grpc.aio import InferenceServerClient

    async with aio.insecure_channel(server.data) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service=passing)) for _ in range(1_000)]
        first = await asyncio.gather(*(watch.read() for watch in watches))
        assert {reply.status for reply in first} == {SERVING}
        async with InferenceServerClient(server.data) as client:
            await client.unload_model(passing)
        second = await asyncio.gather(*(watch.read() for watch in watches))
        assert not {reply.status for reply in second} & {SERVING}
        for watch in watches:
            watch.cancel()


SERVICES = {INFERENCE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"}


def test_reflection_lists_services_and_describes_their_messages(channel: grpc.Channel) -> None:
    """The descriptor database of grpcio-reflection finds every service, message and method."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
        ProtoReflectionDescriptorDatabase,
    )

    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= SERVICES
    pool = DescriptorPool(database)
    service = pool.FindServiceByName(INFERENCE)
    methods = {method.name for method in service.methods}
    assert {"ServerLive", "ModelInfer", "ModelStreamInfer", "RepositoryIndex", "ModelStatistics"} <= methods
    message = pool.FindMessageTypeByName("inference.ModelInferRequest")
    assert "raw_input_contents" in message.fields_by_name
    assert pool.FindMethodByName(f"{INFERENCE}.ModelInfer").name == "ModelInfer"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_are_served(channel: grpc.Channel, version: str) -> None:
    """Old tools ask in the alpha's name; the messages are the same. Answers come in order, errors among them."""
    from grpc_reflection.v1alpha import reflection_pb2 as pb  # type: ignore[import-untyped]

    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    asked = [
        pb.ServerReflectionRequest(list_services=""),
        pb.ServerReflectionRequest(file_containing_symbol="nothing.Here"),
        pb.ServerReflectionRequest(file_containing_symbol=f"{INFERENCE}.ModelInfer"),
        pb.ServerReflectionRequest(file_by_filename="nothing.proto"),
    ]
    replies = list(call(iter(asked), timeout=WAIT_S))
    kinds = [reply.WhichOneof("message_response") for reply in replies]
    assert kinds == ["list_services_response", "error_response", "file_descriptor_response", "error_response"]
    assert {service.name for service in replies[0].list_services_response.service} >= SERVICES
    assert replies[1].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert [reply.original_request for reply in replies] == asked


def test_a_client_that_knows_reflection_only_infers(server: Server) -> None:
    """grpc-requests builds its calls from what the server says of itself."""
    from grpc_requests import Client

    client = Client.get_by_endpoint(server.data)
    try:
        reply = client.request(
            INFERENCE,
            "ModelInfer",
            {
                "model_name": "identity-fp32",
                "id": "r",
                "inputs": [
                    {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}
                ],
            },
        )
        assert client.request(INFERENCE, "ServerReady", {}) == {"ready": True}
    finally:
        client.channel.close()
    assert reply["id"] == "r"
    assert len(reply["raw_output_contents"]) == 1


@pytest.mark.slow
def test_grpcurl_lists_describes_and_calls(server: Server) -> None:
    """The command-line client that people have at hand."""
    grpcurl = shutil.which("grpcurl") or shutil.which("grpcurl", path=str(Path(sys.executable).parent))
    if grpcurl is None:
        pytest.skip("grpcurl is not installed here")

    def run(*arguments: str) -> str:
        command = [grpcurl, "-plaintext", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT_S).stdout

    assert INFERENCE in run(server.data, "list").splitlines()
    assert "rpc ModelInfer" in run(server.data, "describe", INFERENCE)
    body = {
        "model_name": "identity-fp32",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}],
    }
    reply = json.loads(run("-d", json.dumps(body), server.data, f"{INFERENCE}/ModelInfer"))
    assert reply["outputs"][0]["shape"] == ["1", "4"]
    assert json.loads(run(server.data, "grpc.health.v1.Health/Check")) == {"status": "SERVING"}


def test_unknown_services_and_methods_are_unimplemented(channel: grpc.Channel) -> None:
    """Whoever asks is told so by status."""
    for path in ("/nothing.Here/Call", f"/{INFERENCE}/Nothing", "/", "/grpc.health.v1.Health/Nothing"):
        call: Any = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05abc", b"\x2a\x02\x0a\x09"])
def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel, body: bytes) -> None:
    """Truncated fields, lengths beyond the end and unknown wire types."""
    call: Any = channel.unary_unary(f"/{INFERENCE}/ModelInfer", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as caught:
        call(body)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_trace_context_and_request_id_come_back_in_metadata(channel: grpc.Channel) -> None:
    """With success and with failure."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    metadata = (
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=1"),
        ("x-request-id", "r-1"),
    )
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    _, call = stub.ServerLive.with_call(service_pb2.ServerLiveRequest(), metadata=metadata)
    assert set(metadata) <= {(item.key, item.value) for item in call.initial_metadata()}
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(service_pb2.ModelInferRequest(model_name="nothing-here"), metadata=metadata)
    failed: Any = caught.value
    sent_back = {(item.key, item.value) for item in (*failed.initial_metadata(), *failed.trailing_metadata())}
    assert set(metadata) <= sent_back


def test_bad_input_names_its_field_in_the_status_details(channel: grpc.Channel) -> None:
    """google.rpc.BadRequest, as generic clients show it."""
    from google.rpc.error_details_pb2 import BadRequest
    from grpc_status import rpc_status
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="identity-fp32")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(bytes(12))
    with pytest.raises(grpc.RpcError) as caught:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    status = rpc_status.from_call(caught.value)
    assert status is not None
    (detail,) = status.details
    found = BadRequest()
    assert detail.Unpack(found)
    assert found.field_violations[0].field == "x"


def test_calls_from_many_threads_share_a_channel(channel: grpc.Channel) -> None:
    """Blocking clients do this all the time."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    wrong: list[int] = []

    def work(number: int) -> None:
        raw = number.to_bytes(4, "little") * 4
        request = service_pb2.ModelInferRequest(model_name="identity-fp32", id=str(number))
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        request.raw_input_contents.append(raw)
        reply = stub.ModelInfer(request)
        if reply.id != str(number) or list(reply.raw_output_contents) != [raw]:
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert wrong == []
