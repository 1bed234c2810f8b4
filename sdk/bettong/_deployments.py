import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bettong._deployment_config import DeploymentConfig
from bettong._errors import NotReadyError, ServerError
from bettong._progress import state_progress
from bettong._warnings import warn_ignored
from bettong.v1 import deployments_pb2

if TYPE_CHECKING:
    from bettong._connection import Connection

_STATE_NAMES = {
    deployments_pb2.DEPLOYMENT_STATE_STARTING: "Starting",
    deployments_pb2.DEPLOYMENT_STATE_RUNNING: "Running",
    deployments_pb2.DEPLOYMENT_STATE_ERROR: "Error",
    deployments_pb2.DEPLOYMENT_STATE_STOPPED: "Stopped",
}


_REPLICA_STATE_NAMES = {
    deployments_pb2.REPLICA_STATE_WAITING: "Waiting",
    deployments_pb2.REPLICA_STATE_LOADING: "Loading",
    deployments_pb2.REPLICA_STATE_READY: "Ready",
    deployments_pb2.REPLICA_STATE_FAILED: "Failed",
    deployments_pb2.REPLICA_STATE_LEAVING: "Leaving",
}

_ENGINE_STATUSES = {
    "Waiting": "Starting",
    "Loading": "Starting",
    "Ready": "Running",
    "Failed": "Error",
    "Leaving": "Running",
    "Unknown": "Starting",
}
"""Words of the platform's notebooks for the states of replicas."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A version of a pipeline on one executor of a cluster, as it was when it was fetched.

    Attributes:
        member: Name of the executor.
        version: Version of the pipeline.
        state: "Waiting", "Loading", "Ready", "Failed" or "Leaving".
        reason: Why it failed, or how far it has come.
    """

    member: str
    version: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment, as it was when it was fetched.

    Attributes:
        pipeline: Name of the pipeline.
        version: The version that is asked for.
        serving_version: The version that answers; None if none does.
        state: "Starting", "Running", "Error" or "Stopped".
        reason: Why it does not run, or runs with fewer replicas than asked for; empty when all is as asked for.
        updated: When it last changed, in UTC.
        replicas: In a cluster, what is where; empty in one process.
    """

    pipeline: str
    version: int
    serving_version: int | None
    state: str
    reason: str
    updated: dt.datetime
    replicas: tuple[Replica, ...] = ()


def deployment_from_pb(message: deployments_pb2.Deployment) -> Deployment:
    """Convert a deployment from the wire."""
    return Deployment(
        pipeline=message.pipeline,
        version=message.version,
        serving_version=message.serving_version or None,
        state=state_name(message.state),
        reason=message.reason,
        updated=dt.datetime.fromtimestamp(message.updated_ms / 1000, tz=dt.UTC),
        replicas=tuple(map(_replica, message.replicas)),
    )


def _replica(message: deployments_pb2.Replica) -> Replica:
    state = {int(known): name for known, name in _REPLICA_STATE_NAMES.items()}.get(message.state, "Unknown")
    return Replica(message.member, message.version, state, message.reason)


def state_name(state: int) -> str:
    """Return the word for a state."""
    return {int(known): name for known, name in _STATE_NAMES.items()}.get(state, "Unknown")


def deploy(
    connection: "Connection",
    pipeline: str,
    version: int,
    *,
    config: DeploymentConfig | None,
    timeout_s: float,
    wait: bool,
) -> None:
    """Ask for a version to serve and, unless told otherwise, follow it until it does.

    Raises:
        NotReadyError: It cannot be brought up; says why.
        DeadlineError: It is not up in time; the server goes on trying.
    """
    request = deployments_pb2.DeployRequest(pipeline=pipeline, version=version)
    if config is not None:
        request.config.CopyFrom(config.to_pb())
    last: deployments_pb2.Deployment | None = None
    with state_progress(f"Deploying '{pipeline}' version {version}") as show, connection.translated():
        states = connection.control().deployments.Deploy(request, timeout=timeout_s)
        for reply in states:
            last = reply.deployment
            show(_describe(last))
            if not wait:
                states.cancel()
                break
    if last is None:
        raise ServerError("the server ended the deployment without a word")
    _report(last, wait=wait)


def _report(last: deployments_pb2.Deployment, *, wait: bool) -> None:
    for name in last.ignored:
        warn_ignored(f"deployment setting '{name}'", "this server does not act on it")
    if wait and last.state != deployments_pb2.DEPLOYMENT_STATE_RUNNING:
        reason = last.reason or state_name(last.state)
        raise NotReadyError(f"pipeline '{last.pipeline}' version {last.version} does not serve: {reason}")


def _describe(message: deployments_pb2.Deployment) -> str:
    parts = [f"{model.name} {state_name(model.state).lower()}" for model in message.models]
    parts += [f"{found.member} {found.state.lower()}" for found in map(_replica, message.replicas)]
    details = f" ({', '.join(parts)})" if parts else ""
    return f"{state_name(message.state).lower()}{details}"


def status_of(message: deployments_pb2.Deployment | None) -> dict[str, Any]:
    """Return the status in the shape that the platform's notebooks read; None stands for one that was never deployed."""
    if message is None:
        return {"status": "Stopped", "details": ["never deployed"], "engines": [], "engine_lbs": [], "sidekicks": []}
    name = state_name(message.state)
    engines = [_engine(message, "engine", name, reason=message.reason, version=message.serving_version)]
    if message.replicas:
        engines = [
            _engine(message, found.member, _ENGINE_STATUSES[found.state], reason=found.reason, version=found.version)
            for found in map(_replica, message.replicas)
        ]
    is_stopped = message.state == deployments_pb2.DEPLOYMENT_STATE_STOPPED
    return {
        "status": name,
        "details": [message.reason] if message.reason else [],
        "engines": [] if is_stopped else engines,
        "engine_lbs": [],
        "sidekicks": [],
    }


def _engine(
    message: deployments_pb2.Deployment, name: str, status: str, *, reason: str, version: int
) -> dict[str, Any]:
    return {
        "name": name,
        "status": status,
        "reason": reason or None,
        "details": [],
        "pipeline_statuses": {"pipelines": [{"id": message.pipeline, "version": version or None, "status": status}]},
        "model_statuses": {"models": [_model_status(model) for model in message.models]},
    }


def _model_status(model: deployments_pb2.ModelStatus) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "sha": model.sha256,
        "status": state_name(model.state),
        "reason": model.reason or None,
    }
