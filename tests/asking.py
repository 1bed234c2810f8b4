"""A gRPC client that asks for one row and says what became of it."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc import aio
from links import UNLIMITED
from loads import one_row, value_of
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

Metadata = Sequence[tuple[str, str]]


class Asker:
    """Asks one gateway."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address, UNLIMITED)
        self._stub: Any = GRPCInferenceServiceStub(self._channel)

    async def infer(
        self, value: float, *, model: str = "p", within_s: float | None = None, metadata: Metadata = ()
    ) -> float:
        """Return the first output of the row *value*."""
        return value_of(await self._stub.ModelInfer(one_row(model, value), timeout=within_s, metadata=metadata))

    async def code(self, value: float, *, model: str = "p", within_s: float | None = None) -> str:
        """Return the name of the status."""
        try:
            await self.infer(value, model=model, within_s=within_s)
        except aio.AioRpcError as error:
            name: str = error.code().name
            return name
        return "OK"

    async def send(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        return await self._stub.ModelInfer(request)

    async def close(self) -> None:
        await self._channel.close()


@contextlib.asynccontextmanager
async def asking(address: str) -> AsyncIterator[Asker]:
    """Ask inside the block."""
    asker = Asker(address)
    try:
        yield asker
    finally:
        await asker.close()


def row(value: float) -> np.ndarray:
    """Return one row of one column."""
    return np.array([[value]], np.float32)


def field_of(error: aio.AioRpcError) -> str:
    """Return the field that a status says is wrong."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                bad = BadRequest()
                if detail.Unpack(bad):
                    return str(bad.field_violations[0].field)
    return ""
