"""Names of the server's models and pipelines, for whoever presses TAB."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bettong._client import Client

_TIMEOUT_S = 1.0
"""Longer, and a shell would seem to hang."""


def pipeline_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the pipelines that begin like what was typed."""

    def ask(client: "Client") -> list[str]:
        return [pipeline.name() for pipeline in client.list_pipelines()]

    return _asked(context, incomplete, ask)


def model_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the models that begin like what was typed."""

    def ask(client: "Client") -> list[str]:
        return [model.name() for model in client.list_models()]

    return _asked(context, incomplete, ask)


def _asked(context: click.Context, incomplete: str, ask: "Callable[[Client], list[str]]") -> list[str]:
    """Ask the server that the line names; nothing is completed if it does not answer at once."""
    from bettong._client import Client
    from bettong._errors import BettongError

    url = context.params.get("url") or context.find_root().params.get("url")
    try:
        with Client(url, _TIMEOUT_S) as client:
            return [name for name in ask(client) if name.startswith(incomplete)]
    except BettongError:
        return []
