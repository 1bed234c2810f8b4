"""Serve machine-learning pipelines: connect with `Client`, or start an embedded server with `up`.

Importing this package costs next to nothing; every name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bettong._client import Client
    from bettong._deployment_config import DeploymentConfig, DeploymentConfigBuilder
    from bettong._deployments import Deployment, Replica
    from bettong._errors import (
        BettongError,
        ConflictError,
        DeadlineError,
        InvalidInputError,
        NoSpaceError,
        NotFoundError,
        NotReadyError,
        OverloadedError,
        ServerError,
        StartError,
        UnreachableError,
    )
    from bettong._local import LocalPipeline
    from bettong._members import Member, Members
    from bettong._model_settings import Acceleration, Architecture, DynamicBatchingConfig, Framework, ModelConfig
    from bettong._models import Model, ModelVersion
    from bettong._pipelines import Pipeline, PipelineVersion
    from bettong._signature import Signature, TensorSpec
    from bettong._steps import ModelStep
    from bettong._up import up
    from bettong._warnings import IgnoredSettingWarning

_MODULE_BY_NAME = {
    "Acceleration": "_model_settings",
    "Architecture": "_model_settings",
    "BettongError": "_errors",
    "Client": "_client",
    "ConflictError": "_errors",
    "DeadlineError": "_errors",
    "Deployment": "_deployments",
    "DeploymentConfig": "_deployment_config",
    "DeploymentConfigBuilder": "_deployment_config",
    "DynamicBatchingConfig": "_model_settings",
    "Framework": "_model_settings",
    "IgnoredSettingWarning": "_warnings",
    "InvalidInputError": "_errors",
    "LocalPipeline": "_local",
    "Member": "_members",
    "Members": "_members",
    "Model": "_models",
    "ModelConfig": "_model_settings",
    "ModelStep": "_steps",
    "ModelVersion": "_models",
    "NoSpaceError": "_errors",
    "NotFoundError": "_errors",
    "NotReadyError": "_errors",
    "OverloadedError": "_errors",
    "Pipeline": "_pipelines",
    "PipelineVersion": "_pipelines",
    "Replica": "_deployments",
    "ServerError": "_errors",
    "Signature": "_signature",
    "StartError": "_errors",
    "TensorSpec": "_signature",
    "UnreachableError": "_errors",
    "up": "_up",
}

__all__ = [
    "Acceleration",
    "Architecture",
    "BettongError",
    "Client",
    "ConflictError",
    "DeadlineError",
    "Deployment",
    "DeploymentConfig",
    "DeploymentConfigBuilder",
    "DynamicBatchingConfig",
    "Framework",
    "IgnoredSettingWarning",
    "InvalidInputError",
    "LocalPipeline",
    "Member",
    "Members",
    "Model",
    "ModelConfig",
    "ModelStep",
    "ModelVersion",
    "NoSpaceError",
    "NotFoundError",
    "NotReadyError",
    "OverloadedError",
    "Pipeline",
    "PipelineVersion",
    "Replica",
    "ServerError",
    "Signature",
    "StartError",
    "TensorSpec",
    "UnreachableError",
    "up",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    module = _MODULE_BY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module 'bettong' has no attribute '{name}'")
    found: object = getattr(importlib.import_module(f"bettong.{module}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
