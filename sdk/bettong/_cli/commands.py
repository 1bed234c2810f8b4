"""The tree of commands; each is loaded when it is called."""

import importlib
from typing import Any

import click

from bettong._cli.session import Session, pass_global_options

_COMMANDS = {
    "cluster": "bettong._cli.cluster:cluster",
    "completion": "bettong._cli.completion:completion",
    "demo": "bettong._demo.command:demo",
    "executor": "bettong._cli.roles:executor",
    "gateway": "bettong._cli.roles:gateway",
    "infer": "bettong._cli.infer:infer",
    "logs-level": "bettong._cli.status:logs_level",
    "members": "bettong._cli.members:members",
    "model": "bettong._cli.model:model",
    "pipeline": "bettong._cli.pipeline:pipeline",
    "router": "bettong._cli.roles:router",
    "serve": "bettong._cli.serve:serve",
    "status": "bettong._cli.status:status",
    "up": "bettong._cli.serve:up",
    "version": "bettong._cli.version:version",
}


class LazyGroup(click.Group):
    """Imports the module of a command when the command is called or described."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in order."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; None if there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: Any = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@pass_global_options
def cli(session: Session) -> None:
    """Serve machine-learning pipelines.

    Start with `bettong serve MODEL.onnx`, or see `bettong demo`.
    """
    del session
