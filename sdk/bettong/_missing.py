"""Saying what is wrong with a pipeline that does not answer, and what to do next."""

import difflib
from typing import TYPE_CHECKING

from bettong._errors import BettongError, NotFoundError
from bettong.v1 import pipelines_pb2

if TYPE_CHECKING:
    from bettong._connection import Connection

_MOST_NAMES = 5


def explained(connection: "Connection", name: str, error: NotFoundError) -> NotFoundError:
    """Return the error for a pipeline that nobody serves, with what the control plane knows of it.

    The data port knows what is deployed, not what else there is. One look more costs nothing where nothing can be answered.
    """
    try:
        reply = connection.ask(lambda control: control.pipelines.ListPipelines, pipelines_pb2.ListPipelinesRequest())
    except BettongError:
        return error
    names = sorted({pipeline.name for pipeline in reply.pipelines})
    if name in names:
        return NotFoundError(
            f"pipeline '{name}' is not deployed; `pipeline.deploy()` or `bettong pipeline deploy {name}` lets it serve"
        )
    return NotFoundError(f"there is no pipeline '{name}'; {_advice(name, names)}")


def _advice(name: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1)
    if nearest:
        return f"did you mean '{nearest[0]}'?"
    if not names:
        return "there is none yet: upload a model and deploy a pipeline of it"
    more = ", …" if len(names) > _MOST_NAMES else ""
    return f"there are {', '.join(names[:_MOST_NAMES])}{more}"
