"""`bettong members`: who is in the cluster."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bettong._cli.session import Session, pass_global_options, table
from bettong._cli.watching import show_watched, watch_options

if TYPE_CHECKING:
    from bettong._members import Member, Members

_COLUMNS = (
    "role",
    "name",
    "address",
    "version",
    "lanes",
    "memory",
    "ready",
    "loading",
    "failed",
    "open",
    "waiting",
    "state",
)
_UNIT = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command()
@watch_options
@pass_global_options
def members(session: Session, *, watch: bool, interval: float) -> None:
    """Show who is in the cluster, what each runs and how much it has to do.

    READY, LOADING and FAILED count pipeline versions, OPEN requests of the asked gateway that are not answered, WAITING rows.
    """
    with session.connect() as client:

        def look() -> tuple[Any, str]:
            found = client.members()
            return as_json(found), as_text(found)

        show_watched(session, look, watch=watch, interval=interval)


def as_json(found: "Members") -> dict[str, Any]:
    """Return members for programs."""
    document = asdict(found)
    document["etcd_lost_since"] = found.etcd_lost_since.isoformat(timespec="seconds") if found.etcd_lost_since else None
    return document


def as_text(found: "Members") -> str:
    """Return members for people."""
    count = f"{len(found.members)} member{'' if len(found.members) == 1 else 's'}"
    title = f"cluster {found.cluster}, {count}" if found.cluster else "one process"
    since = found.etcd_lost_since.isoformat(timespec="seconds") if found.etcd_lost_since else None
    lines = [title, *lost_line(since, found.etcd_lost_reason)]
    return "\n".join([*lines, table(_COLUMNS, [_row(member) for member in found.members])])


def lost_line(since: str | None, reason: str) -> list[str]:
    """Return what there is to say when etcd does not answer."""
    return (
        [f"etcd does not answer since {since}: {reason}; changes wait, what is below is from before"] if since else []
    )


def _row(member: "Member") -> list[object]:
    plain = [member.role, member.name, member.address, member.version, member.lanes or None]
    counts = [member.ready, member.loading, member.failed, member.outstanding, member.waiting_rows]
    state = member.error or ("draining" if member.draining else "serving")
    return [*plain, size_text(member.memory_bytes), *counts, state]


def size_text(count: int | None) -> str | None:
    """Return a number of bytes for people."""
    if count is None:
        return None
    value, at = float(count), 0
    while value >= _UNIT and at < len(_UNITS) - 1:
        value, at = value / _UNIT, at + 1
    return f"{value:.3g} {_UNITS[at]}"
