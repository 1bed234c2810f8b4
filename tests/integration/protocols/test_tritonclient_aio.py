"""tritonclient's two asynchronous clients as witnesses."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest
from servers import Server
from tritonclient.grpc import aio as triton_grpc
from tritonclient.http import aio as triton_http
from tritonclient.utils import InferenceServerException

# Of one of the two modules; both are untyped.
Client: TypeAlias = Any
IDS = ("grpc", "http")


@pytest.fixture(params=IDS)
async def client(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    module = {"grpc": triton_grpc, "http": triton_http}[request.param]
    async with module.InferenceServerClient(server.data) as connected:
        yield connected


def inputs_for(client: Client, number: int, rows: int) -> Sequence[object]:
    module = triton_grpc if isinstance(client, triton_grpc.InferenceServerClient) else triton_http
    tag, x = module.InferInput("tag", [rows, 2], "INT64"), module.InferInput("x", [rows, 3], "FP32")
    tag.set_data_from_numpy(np.array([[number, row] for row in range(rows)], np.int64))
    x.set_data_from_numpy(np.zeros([rows, 3], np.float32))
    return [tag, x]


async def test_many_requests_at_once_each_get_their_own_reply(client: Client) -> None:
    """However the server joins them."""
    calls = [client.infer("tagged", inputs_for(client, number, 1 + number % 7)) for number in range(50)]
    replies = await asyncio.gather(*calls)
    for number, reply in enumerate(replies):
        expected = [[number, row] for row in range(1 + number % 7)]
        assert reply.as_numpy("echo").tolist() == expected


async def test_questions_about_the_server_and_models(client: Client) -> None:
    """Live, ready, metadata, configuration, index and statistics."""
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("tagged")
    await client.get_server_metadata()
    await client.get_model_metadata("tagged")
    await client.get_model_config("tagged")
    await client.get_model_repository_index()
    await client.get_inference_statistics("tagged")


async def test_an_unknown_model_is_an_error_with_its_name(client: Client) -> None:
    """And the client goes on."""
    with pytest.raises(InferenceServerException, match="nothing-here"):
        await client.infer("nothing-here", inputs_for(client, 1, 1))
    assert await client.is_server_ready()


async def test_a_stream_is_answered_in_order_with_errors_in_their_places(server: Server) -> None:
    """The asynchronous iterator gives a pair for each message."""

    async def messages() -> AsyncIterator[dict[str, object]]:
        for number in range(30):
            name = "nothing-here" if number % 10 == 5 else "tagged"
            yield {"model_name": name, "inputs": inputs_for(client, number, 2), "request_id": str(number)}

    async with triton_grpc.InferenceServerClient(server.data) as client:
        replies = [pair async for pair in client.stream_infer(messages())]
    assert len(replies) == 30
    for number, (result, error) in enumerate(replies):
        if number % 10 == 5:
            assert "nothing-here" in error.message()
        else:
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("echo").tolist() == [[number, 0], [number, 1]]
