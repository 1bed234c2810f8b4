"""`bettong gateway`, `bettong router`, `bettong executor`: one member of a cluster in the foreground."""

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import click

from bettong._cli.server_options import role_options
from bettong._cli.session import server_errors

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

_CONFIGS = {
    "gateway": "bettong_gateway.config:GatewayConfig",
    "router": "bettong_router.config:RouterConfig",
    "executor": "bettong_executor.config:ExecutorConfig",
}
_ASSEMBLIES = {
    "gateway": "bettong_gateway.cluster:serve",
    "router": "bettong_router.serve:serve",
    "executor": "bettong_executor.serve:serve",
}
"""Each takes the settings of the role and of the cluster, an event that ends it, and what it calls when it is ready."""


class Addresses(Protocol):
    """Where a member listens, each as `host:port`."""

    @property
    def data(self) -> str:
        """Return where it takes requests, or links."""

    @property
    def metrics(self) -> str:
        """Return where its metrics are."""


@click.command()
@role_options("gateway")
def gateway(**flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Run a member that accepts requests of every protocol, and changes of what is deployed.

    Every setting can also be given as BETTONG_<NAME> or in the file that BETTONG_CONFIG names.
    """
    _run("gateway", flags)


@click.command()
@role_options("router")
def router(**flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Run a member that passes requests on to the executor that has least to do.

    Every setting can also be given as BETTONG_<NAME> or in the file that BETTONG_CONFIG names.
    """
    _run("router", flags)


@click.command()
@role_options("executor")
def executor(**flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Run a member that runs models.

    Every setting can also be given as BETTONG_<NAME> or in the file that BETTONG_CONFIG names.
    """
    _run("executor", flags)


def _run(role: str, flags: dict[str, Any]) -> None:
    import asyncio
    import os

    # What gRPC logs of each connection that fails, in its own words, is in our errors and log lines once. Read when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from bettong._cli.variables import warn_misspelled
    from bettong_kit.membership.settings import load_member_settings

    warn_misspelled(os.environ)
    with server_errors():
        # Routers touch no models.
        config, cluster = load_member_settings(_load(_CONFIGS[role]), flags, os.environ, needs_blobs=role != "router")
        serve = _load(_ASSEMBLIES[role])
        asyncio.run(_serve(role, lambda stop, on_ready: serve(config, cluster, stop, on_ready)))


async def _serve(
    role: str, serve: "Callable[[asyncio.Event, Callable[[Addresses], None]], Coroutine[Any, Any, None]]"
) -> None:
    import asyncio

    from bettong_kit.lifecycle import stop_on_signals
    from bettong_kit.logging import get_logger

    log = get_logger(role)

    def announce(at: Addresses) -> None:
        control = {"control": at.control} if hasattr(at, "control") else {}
        log.info("ready", role=role, data=at.data, **control, metrics=at.metrics)

    stop = asyncio.Event()
    with stop_on_signals(stop):
        await serve(stop, announce)


def _load(path: str) -> Any:  # noqa: ANN401 - a class or a function, each known by its users
    """Import what `module:name` names: a role is loaded when it is run."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
