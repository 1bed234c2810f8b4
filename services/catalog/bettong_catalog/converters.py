"""Between the wire contract and the domain. Pure; the only place that knows both."""

from collections.abc import Iterable

from bettong.internal.v1 import snapshot_pb2, stored_pb2
from bettong.v1 import deployments_pb2, models_pb2, pipelines_pb2
from bettong_domain.deployments import (
    Deployment,
    DeploymentConfig,
    DeploymentState,
    Desired,
    ModelStatus,
    Replica,
    ReplicaState,
)
from bettong_domain.models import BatchMode, Framework, Model, ModelConfig, ModelKey, Signature, TensorSpec
from bettong_domain.pipelines import Pipeline, PipelineKey, Step
from bettong_domain.plans import Program, ProgramInput, ProgramStep, Source
from bettong_kit.errors import InvalidArgumentError

BATCH_MODES = {
    BatchMode.ROWS: models_pb2.BATCH_MODE_ROWS,
    BatchMode.SINGLE: models_pb2.BATCH_MODE_SINGLE,
    BatchMode.WHOLE: models_pb2.BATCH_MODE_WHOLE,
}
_BATCH_MODES_BY_PB = {value: mode for mode, value in BATCH_MODES.items()}
FRAMEWORKS = {Framework.ONNX: models_pb2.FRAMEWORK_ONNX}
_FRAMEWORKS_BY_PB: dict[int, Framework] = {value: framework for framework, value in FRAMEWORKS.items()}
STATES = {
    DeploymentState.STARTING: deployments_pb2.DEPLOYMENT_STATE_STARTING,
    DeploymentState.RUNNING: deployments_pb2.DEPLOYMENT_STATE_RUNNING,
    DeploymentState.ERROR: deployments_pb2.DEPLOYMENT_STATE_ERROR,
    DeploymentState.STOPPED: deployments_pb2.DEPLOYMENT_STATE_STOPPED,
}
_REPLICA_STATES = {
    ReplicaState.WAITING: deployments_pb2.REPLICA_STATE_WAITING,
    ReplicaState.LOADING: deployments_pb2.REPLICA_STATE_LOADING,
    ReplicaState.READY: deployments_pb2.REPLICA_STATE_READY,
    ReplicaState.FAILED: deployments_pb2.REPLICA_STATE_FAILED,
    ReplicaState.LEAVING: deployments_pb2.REPLICA_STATE_LEAVING,
}
_PLAIN_SETTINGS = (
    "replicas",
    "replicas_min",
    "replicas_max",
    "cpus",
    "memory_bytes",
    "gpus",
    "autoscale_cpu_utilization",
    "scale_up_queue_depth",
    "scale_down_queue_depth",
    "autoscaling_window_s",
)


def framework_from_pb(value: int) -> Framework:
    """Return a framework.

    Raises:
        InvalidArgumentError: It is not given, or this version does not know it.
    """
    if value not in _FRAMEWORKS_BY_PB:
        names = ", ".join(framework.name for framework in Framework)
        raise InvalidArgumentError(f"framework is missing or unknown; expected {names}", fields={"framework": names})
    return _FRAMEWORKS_BY_PB[value]


def tensor_spec_to_pb(spec: TensorSpec) -> models_pb2.TensorSpec:
    """Return the message of an input or output."""
    return models_pb2.TensorSpec(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def tensor_spec_from_pb(message: models_pb2.TensorSpec) -> TensorSpec:
    """Return an input or output."""
    return TensorSpec(message.name, message.datatype, tuple(message.shape))


def signature_to_pb(signature: Signature) -> models_pb2.Signature:
    """Return the message of a signature."""
    return models_pb2.Signature(
        inputs=map(tensor_spec_to_pb, signature.inputs),
        outputs=map(tensor_spec_to_pb, signature.outputs),
        batch_mode=BATCH_MODES[signature.batch_mode],
    )


def signature_from_pb(message: models_pb2.Signature) -> Signature:
    """Return a signature; its batch mode is always given."""
    return Signature(
        tuple(map(tensor_spec_from_pb, message.inputs)),
        tuple(map(tensor_spec_from_pb, message.outputs)),
        _BATCH_MODES_BY_PB[message.batch_mode],
    )


def model_config_to_pb(config: ModelConfig) -> models_pb2.ModelConfig:
    """Return the message of a model's settings."""
    return models_pb2.ModelConfig(
        tensor_fields=config.tensor_fields,
        batch_mode=BATCH_MODES[config.batch_mode] if config.batch_mode else models_pb2.BATCH_MODE_UNSPECIFIED,
        max_batch_rows=config.max_batch_rows,
        max_batch_delay_us=config.max_batch_delay_us,
    )


def model_config_from_pb(message: models_pb2.ModelConfig) -> ModelConfig:
    """Return a model's settings."""
    return ModelConfig(
        tuple(message.tensor_fields),
        _BATCH_MODES_BY_PB.get(message.batch_mode),
        message.max_batch_rows,
        message.max_batch_delay_us,
    )


def model_to_pb(model: Model) -> models_pb2.Model:
    """Return the message of a model version."""
    return models_pb2.Model(
        name=model.key.name,
        version=model.key.version,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        framework=FRAMEWORKS[model.framework],
        signature=signature_to_pb(model.signature),
        config=model_config_to_pb(model.config),
        file_name=model.file_name,
        created_ms=model.created_ms,
        runtime=model.runtime,
    )


def model_from_pb(message: models_pb2.Model) -> Model:
    """Return a model version."""
    return Model(
        key=ModelKey(message.name, message.version),
        sha256=message.sha256,
        size_bytes=message.size_bytes,
        framework=framework_from_pb(message.framework),
        signature=signature_from_pb(message.signature),
        config=model_config_from_pb(message.config),
        file_name=message.file_name,
        created_ms=message.created_ms,
        runtime=message.runtime,
    )


def step_to_key(message: pipelines_pb2.Step) -> ModelKey:
    """Return the model that a step runs; version 0 means the newest.

    Raises:
        InvalidArgumentError: The step is of no kind that this version knows.
    """
    if message.WhichOneof("kind") != "model":
        raise InvalidArgumentError("a step without a model", fields={"steps": "every step must name a model"})
    return ModelKey(message.model.model.name, message.model.model.version)


def step_to_pb(step: Step) -> pipelines_pb2.Step:
    """Return the message of a step."""
    reference = pipelines_pb2.ModelRef(name=step.model.name, version=step.model.version)
    return pipelines_pb2.Step(model=pipelines_pb2.ModelStep(model=reference))


def pipeline_to_pb(pipeline: Pipeline) -> pipelines_pb2.Pipeline:
    """Return the message of a pipeline version."""
    return pipelines_pb2.Pipeline(
        name=pipeline.key.name,
        version=pipeline.key.version,
        steps=map(step_to_pb, pipeline.steps),
        signature=signature_to_pb(pipeline.signature),
        created_ms=pipeline.created_ms,
    )


def pipeline_to_stored(pipeline: Pipeline) -> stored_pb2.StoredPipeline:
    """Return what is kept of a pipeline version."""
    configs = (model_config_to_pb(step.config) for step in pipeline.steps)
    return stored_pb2.StoredPipeline(pipeline=pipeline_to_pb(pipeline), configs=configs)


def pipeline_from_stored(message: stored_pb2.StoredPipeline) -> Pipeline:
    """Return a pipeline version."""
    kept = message.pipeline
    steps = zip(map(step_to_key, kept.steps), map(model_config_from_pb, message.configs), strict=True)
    return Pipeline(
        key=PipelineKey(kept.name, kept.version),
        steps=tuple(Step(key, config) for key, config in steps),
        signature=signature_from_pb(kept.signature),
        created_ms=kept.created_ms,
    )


def deployment_config_to_pb(config: DeploymentConfig) -> deployments_pb2.DeploymentConfig:
    """Return the message of a deployment's settings."""
    plain = {name: getattr(config, name) for name in _PLAIN_SETTINGS}
    return deployments_pb2.DeploymentConfig(**plain, labels=dict(config.labels), other=dict(config.other))


def deployment_config_from_pb(message: deployments_pb2.DeploymentConfig) -> DeploymentConfig:
    """Return a deployment's settings."""
    plain = {name: getattr(message, name) for name in _PLAIN_SETTINGS}
    return DeploymentConfig(
        **plain, labels=tuple(sorted(message.labels.items())), other=tuple(sorted(message.other.items()))
    )


def desired_to_stored(desired: Desired) -> stored_pb2.StoredDeployment:
    """Return what is kept of a wish."""
    return stored_pb2.StoredDeployment(
        pipeline=desired.pipeline,
        version=desired.version,
        config=deployment_config_to_pb(desired.config),
        stopped=desired.stopped,
        last_good_version=desired.last_good_version,
        updated_ms=desired.updated_ms,
    )


def desired_from_stored(message: stored_pb2.StoredDeployment, revision: int) -> Desired:
    """Return a wish as of a revision of the store."""
    return Desired(
        pipeline=message.pipeline,
        version=message.version,
        config=deployment_config_from_pb(message.config),
        stopped=message.stopped,
        last_good_version=message.last_good_version,
        updated_ms=message.updated_ms,
        revision=revision,
    )


def model_status_to_pb(status: ModelStatus) -> deployments_pb2.ModelStatus:
    """Return the message of one model of a deployment."""
    return deployments_pb2.ModelStatus(
        name=status.key.name,
        version=status.key.version,
        sha256=status.sha256,
        state=STATES[status.state],
        reason=status.reason,
    )


def deployment_to_pb(deployment: Deployment) -> deployments_pb2.Deployment:
    """Return the message of a deployment."""
    desired = deployment.desired
    return deployments_pb2.Deployment(
        pipeline=desired.pipeline,
        version=desired.version,
        serving_version=deployment.serving_version,
        state=STATES[deployment.state],
        reason=deployment.reason,
        models=map(model_status_to_pb, deployment.models),
        config=deployment_config_to_pb(desired.config),
        ignored=desired.config.without_effect_here(in_cluster=deployment.replicas is not None),
        updated_ms=desired.updated_ms,
        replicas=map(_replica_to_pb, deployment.replicas or ()),
    )


def _replica_to_pb(replica: Replica) -> deployments_pb2.Replica:
    return deployments_pb2.Replica(
        member=replica.member, version=replica.version, state=_REPLICA_STATES[replica.state], reason=replica.reason
    )


def source_to_pb(source: Source) -> snapshot_pb2.Source:
    """Return the message of a column's origin."""
    return snapshot_pb2.Source(step=source.step, index=source.index)


def program_to_pb(program: Program) -> snapshot_pb2.Program:
    """Return a compiled pipeline as the engine takes it."""
    return snapshot_pb2.Program(
        pipeline=program.key.name,
        version=program.key.version,
        inputs=map(_program_input_to_pb, program.inputs),
        steps=map(_program_step_to_pb, program.steps),
        outputs=[
            snapshot_pb2.ProgramOutput(spec=tensor_spec_to_pb(output.spec), source=source_to_pb(output.source))
            for output in program.outputs
        ],
        batch_mode=BATCH_MODES[program.batch_mode],
        max_batch_rows=program.max_batch_rows,
        max_batch_delay_us=program.max_batch_delay_us,
    )


def _program_input_to_pb(given: ProgramInput) -> snapshot_pb2.ProgramInput:
    return snapshot_pb2.ProgramInput(spec=tensor_spec_to_pb(given.spec), aliases=given.aliases, parts=given.parts)


def _program_step_to_pb(step: ProgramStep) -> snapshot_pb2.ProgramStep:
    return snapshot_pb2.ProgramStep(
        model_id=step.model_id,
        inputs=map(source_to_pb, step.inputs),
        model_name=step.model.key.name,
        model_version=step.model.key.version,
        model_sha256=step.model.sha256,
    )


def routing_update_to_pb(
    revision: int,
    *,
    serve: Iterable[Program] = (),
    stop: Iterable[str] = (),
    unavailable: Iterable[tuple[str, str]] = (),
) -> snapshot_pb2.RoutingUpdate:
    """Return a change of what is served."""
    return snapshot_pb2.RoutingUpdate(
        revision=revision, serve=map(program_to_pb, serve), stop=stop, unavailable=dict(unavailable)
    )
