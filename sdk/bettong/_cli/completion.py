"""`bettong completion`."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
def completion(shell: str) -> None:
    """Print the script that completes commands in SHELL.

    For bash: `eval "$(bettong completion bash)"`, in ~/.bashrc to keep it.
    """
    from bettong._cli.commands import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is unknown")
    click.echo(kind(cli, {}, "bettong", "_BETTONG_COMPLETE").source())
