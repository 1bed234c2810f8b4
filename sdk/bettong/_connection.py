"""The way to one server: the data port for events, the control plane for everything else."""

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from bettong._data import read_json
from bettong._errors import BettongError, UnreachableError
from bettong._grpc_errors import translated
from bettong._http import CLOSED, Endpoint, HttpPool, speaks_no_http
from bettong.v1 import server_pb2
from bettong.v1.deployments_pb2_grpc import DeploymentServiceStub
from bettong.v1.models_pb2_grpc import ModelServiceStub
from bettong.v1.pipelines_pb2_grpc import PipelineServiceStub
from bettong.v1.server_pb2_grpc import ServerServiceStub

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

_LOOK_TIMEOUT_S = 2.0
_ANY_HOST = {"0.0.0.0", "[::]", "::", ""}  # noqa: S104 - recognised, not bound


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The services of the control plane, over one channel."""

    channel: grpc.Channel
    models: ModelServiceStub
    pipelines: PipelineServiceStub
    deployments: DeploymentServiceStub
    server: ServerServiceStub


class Connection:
    """Shared by everything that belongs to one client; safe to use from many threads and after a fork."""

    def __init__(self, endpoint: Endpoint, request_timeout_s: float) -> None:
        self.endpoint = endpoint
        self.request_timeout_s = request_timeout_s
        self.pool = HttpPool(endpoint)
        self._lock = threading.Lock()
        self._control: ControlPlane | None = None
        self._control_pid = 0
        self._is_closed = False

    def server(self) -> dict[str, str]:
        """Ask who listens.

        Raises:
            UnreachableError: Nobody, or no Bettong server.
        """
        try:
            found = read_json(self.pool, "/v1/server", timeout_s=self.request_timeout_s)
        except UnreachableError as error:
            if speaks_no_http(error.__cause__):
                raise UnreachableError(_not_the_data_port(self.endpoint)) from error
            raise
        except BettongError as error:
            raise UnreachableError(f"{self.endpoint.url} does not answer as a Bettong server: {error}") from error
        if not isinstance(found.get("control_address"), str):
            raise UnreachableError(f"{self.endpoint.url} does not answer as a Bettong server")
        return {name: str(value) for name, value in found.items()}

    def control(self) -> ControlPlane:
        """Return the control plane, connecting on first use and after a fork.

        Raises:
            UnreachableError: Nobody listens, or the client is closed.
        """
        self.check_open()
        with self._lock:
            if self._control is None or self._control_pid != os.getpid():
                self._control = _open_control(self._control_address())
                self._control_pid = os.getpid()
            return self._control

    def check_open(self) -> None:
        """Do nothing while the client is open.

        Raises:
            UnreachableError: It is closed.
        """
        if self._is_closed:
            raise UnreachableError(CLOSED)

    def ask(
        self, method: "Callable[[ControlPlane], grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]]", request: RequestT
    ) -> ReplyT:
        """Call one method of the control plane.

        Raises:
            BettongError: Whatever it was refused for.
        """
        with self.translated():
            return method(self.control())(request, timeout=self.request_timeout_s)

    def translated(self) -> contextlib.AbstractContextManager[None]:
        """Return a block in which failed calls of the control plane become errors of ours."""
        return translated(self._unreachable)

    def _unreachable(self, reason: str) -> BettongError:
        try:
            control = self.server()["control_address"]
        except UnreachableError as error:
            return error
        return UnreachableError(f"the control port {control} of {self.endpoint.url} does not answer: {reason}")

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        with self._lock:
            self._is_closed = True
            self.pool.shut()
            if self._control is not None and self._control_pid == os.getpid():
                self._control.channel.close()
            self._control = None

    def _control_address(self) -> str:
        host, _, port = self.server()["control_address"].rpartition(":")
        # A server that listens everywhere does not know by which name it was reached; the caller does.
        reached = f"[{self.endpoint.host}]" if ":" in self.endpoint.host else self.endpoint.host
        return f"{reached if host in _ANY_HOST else host}:{port}"


def _not_the_data_port(endpoint: Endpoint) -> str:
    """Return what to tell a user who named a port that does not speak HTTP/1: most likely that of the control plane."""
    plain = f"{endpoint.url} is no data port of a Bettong server: it does not speak HTTP/1.1"
    control = _open_control(endpoint.authority)
    try:
        found = control.server.GetStatus(server_pb2.GetStatusRequest(), timeout=_LOOK_TIMEOUT_S)
    except grpc.RpcError:
        return f"{plain}; give the address that the server prints as ready"
    finally:
        control.channel.close()
    return f"{endpoint.url} is the control port of a Bettong server; its data port is http://{found.data_address}"


def _open_control(address: str) -> ControlPlane:
    # A proxy of the environment is meant for the outside; the data port does not use it either.
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    return ControlPlane(
        channel,
        ModelServiceStub(channel),
        PipelineServiceStub(channel),
        DeploymentServiceStub(channel),
        ServerServiceStub(channel),
    )
