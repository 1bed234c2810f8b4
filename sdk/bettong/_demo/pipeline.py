"""Putting the demo's pipeline on a server, and asking it."""

import hashlib
from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from bettong._client import Client
from bettong._errors import NotFoundError, ServerError
from bettong._models import ModelVersion
from bettong._pipelines import Pipeline

PIPELINE = "fraud"
PROBABILITY = "out.fraud_probability"
_STEPS = (("fraud-features", "features.onnx"), ("fraud-model", "model.onnx"))


def deploy_fraud(client: Client) -> Pipeline:
    """Upload what the server does not have yet, and return the pipeline when it serves.

    Raises:
        BettongError: The server refuses or cannot load it.
    """
    pipeline = client.build_pipeline(PIPELINE)
    for name, file_name in _STEPS:
        pipeline.add_model_step(_uploaded(client, name, file_name))
    return pipeline.deploy()


class PipelineScorer:
    """Asks the pipeline over the data port, as any client does."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
        """Return the probability of fraud for each row.

        Raises:
            BettongError: The server refused, or answered something that cannot be a probability.
        """
        reply = self._pipeline.infer(columns, dataset=[PROBABILITY])
        (rows,) = {len(values) for values in columns.values()}
        return probabilities(np.asarray(reply[PROBABILITY]), rows)


def probabilities(answer: NDArray[np.floating], rows: int) -> NDArray[np.floating]:
    """Return an answer flat, after a look at it.

    Raises:
        ServerError: It has not one probability for each row.
    """
    if answer.size != rows:
        raise ServerError(f"{rows} rows were answered with {answer.size} values")
    if not ((answer >= 0) & (answer <= 1)).all():
        raise ServerError("the server answered with numbers that are no probabilities")
    return answer.ravel()


def _uploaded(client: Client, name: str, file_name: str) -> ModelVersion:
    """Return the newest version of a model if it has the packaged bytes, or else upload them."""
    content = (resources.files("bettong._demo") / file_name).read_bytes()
    try:
        newest = client.get_model(name)
    except NotFoundError:
        return client.upload_model(name, content)
    return newest if newest.sha() == hashlib.sha256(content).hexdigest() else client.upload_model(name, content)
