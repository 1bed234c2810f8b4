"""What the commands share: the server they talk to and how they print."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from bettong._client import Client

P = ParamSpec("P")
R = TypeVar("R")

_URL_HELP = "Address of the server.  [env: BETTONG_URL; default: http://127.0.0.1:8080]"
_OUTPUT_HELP = "How to print: text for people or json for programs."


@dataclass(frozen=True, slots=True)
class Session:
    """Where to connect and how to print."""

    url: str | None = None
    output: str = "text"

    @property
    def is_json(self) -> bool:
        """Return whether programs read the output."""
        return self.output == "json"

    def connect(self) -> "Client":
        """Return a client of the server.

        Raises:
            UnreachableError: Nobody listens; says how to start a server.
        """
        from bettong._client import Client

        return Client(self.url)

    def show(self, value: object, text: str) -> None:
        """Print *value* as JSON or *text*, as the user asked."""
        click.echo(json.dumps(value, ensure_ascii=False) if self.is_json else text)

    def show_rows(self, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows as JSON objects or as an aligned table."""
        self.show([dict(zip(names, row, strict=True)) for row in rows], table(names, rows))


def pass_global_options(function: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Give a command `--url` and `--output`, which may stand before or after its name, and hand it the session."""

    @click.option("--url", metavar="URL", default=None, show_default=False, help=_URL_HELP)
    @click.option(
        "--output", type=click.Choice(["text", "json"]), default=None, help=f"{_OUTPUT_HELP}  [default: text]"
    )
    @click.pass_context
    @functools.wraps(function)
    def wrapped(context: click.Context, /, *args: Any, url: str | None, output: str | None, **options: Any) -> R:  # noqa: ANN401 - what click hands over
        session = _session_of(context, url, output)
        return function(session, *args, **options)

    return wrapped  # type: ignore[return-value]  # click fills in the options that this wrapper takes


def _session_of(context: click.Context, url: str | None, output: str | None) -> Session:
    before = context.find_object(Session) or Session()
    session = replace(before, url=url or before.url, output=output or before.output)
    context.obj = session
    return session


@contextlib.contextmanager
def server_errors() -> Iterator[None]:
    """Give errors of the services that run in this process the name of ours, so that they are one line.

    Raises:
        StartError: In place of theirs.
    """
    from bettong._errors import StartError
    from bettong_kit.errors import BettongError

    try:
        yield
    except BettongError as error:
        raise StartError(error.message) from error


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under their names, each column as wide as it must be."""
    cells = [[name.upper() for name in names], *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _text(value: object) -> str:
    return "-" if value in {None, ""} else str(value)
