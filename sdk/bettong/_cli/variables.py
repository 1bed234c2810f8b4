"""Variables that were meant to be settings and are none."""

import dataclasses
import difflib
from collections.abc import Mapping

import click

_PREFIX = "BETTONG_"
_ELSEWHERE = frozenset({"CONFIG", "REQUEST_TIMEOUT", "URL", "COMPLETE"})
"""Read by clients, or before the settings."""
_OF_LOCAL_CLUSTERS = "CLUSTER_"
_BY_FLAG = {"PORT": "DATA_PORT", "LOG_FORMAT": "LOG_STYLE"}
"""Flags that have other names than their settings."""
_LIKENESS = 0.7


def warn_misspelled(environment: Mapping[str, str]) -> None:
    """Print one line about variables that nobody reads and that look like settings, for they have no effect."""
    found = misspelled(environment)
    if found:
        texts = [f"{_PREFIX}{name} is no setting, did you mean {_PREFIX}{meant}?" for name, meant in found.items()]
        click.echo(f"bettong: {' '.join(texts)}", err=True)


def misspelled(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that were meant by the names that were given, both without the prefix.

    One file of variables may serve all processes of a host, so settings of every role count as known. What looks like none of
    them belongs to somebody else.
    """
    known = _known()
    given = [name.removeprefix(_PREFIX) for name in sorted(environment) if name.startswith(_PREFIX)]
    found = {}
    for name in given:
        if name in known or name in _ELSEWHERE or name.startswith(_OF_LOCAL_CLUSTERS):
            continue
        meant = [_BY_FLAG[name]] if name in _BY_FLAG else difflib.get_close_matches(name, known, n=1, cutoff=_LIKENESS)
        if meant:
            found[name] = meant[0]
    return found


def _known() -> list[str]:
    from bettong_executor.config import ExecutorConfig
    from bettong_gateway.config import GatewayConfig
    from bettong_kit.membership.settings import ClusterSettings
    from bettong_router.config import RouterConfig

    kinds = (GatewayConfig, RouterConfig, ExecutorConfig, ClusterSettings)
    return sorted({field.name.upper() for kind in kinds for field in dataclasses.fields(kind)})
