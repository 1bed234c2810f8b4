"""`bettong version`."""

import platform
from importlib import metadata

import click

from bettong._cli.session import Session, pass_global_options


@click.command()
@pass_global_options
def version(session: Session) -> None:
    """Show the versions of what is installed here."""
    installed = {
        name: metadata.version(name) for name in ("bettong", "bettong-services", "bettong-engine", "onnxruntime")
    }
    installed["python"] = platform.python_version()
    session.show(installed, "\n".join(f"{name:<18}{number}" for name, number in installed.items()))
