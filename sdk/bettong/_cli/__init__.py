"""The command line: `bettong --help`."""

import itertools
import json
import os
import sys
from collections.abc import Sequence

_INTERRUPTED = 130
_FAILED = 1
_MISUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 if it failed, 2 if it was called wrongly, 130 if it was interrupted."""
    import click

    from bettong._errors import BettongError

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
    except click.exceptions.NoArgsIsHelpError as error:
        # Its message is the help of a group that was called without a command.
        sys.stderr.write(f"{error.format_message()}\n")
        return _MISUSED
    except click.UsageError as error:
        return _fail(_with_advice(error), _MISUSED, given)
    except click.ClickException as error:
        return _fail(error.format_message(), _FAILED, given)
    except BettongError as error:
        return _fail(str(error), _FAILED, given, error)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", _INTERRUPTED, given)
    return code if isinstance(code, int) else 0


def _run(arguments: list[str]) -> object:
    """Run a command and return what it returns.

    Raises:
        ClickException: The installed protobuf cannot read our messages.
    """
    import click

    try:
        from bettong._cli.commands import cli

        code: object = cli.main(args=arguments, prog_name="bettong", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has enough, as in `bettong model list | head -1`; Python must not complain when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:
        # Known by its name, because importing it would cost every command what few need.
        if type(error).__name__ == "VersionError" and type(error).__module__.startswith("google.protobuf"):
            raise click.ClickException(_protobuf_advice(error)) from error
        raise
    return code


def _protobuf_advice(error: Exception) -> str:
    from importlib import metadata

    return (
        f"protobuf {metadata.version('protobuf')} is too old for Bettong, another package may have put it there; "
        f"`pip install --upgrade protobuf`, or give that package an environment of its own ({error})"
    )


def _fail(message: str, code: int, arguments: Sequence[str], error: Exception | None = None) -> int:
    line = " ".join(message.split())
    if _is_for_programs(arguments):
        known = {name: getattr(error, name, None) for name in ("field", "row", "retry_after_s")}
        kind = {"kind": type(error).__name__} if error else {}
        line = json.dumps(
            {"error": line} | kind | {k: v for k, v in known.items() if v is not None}, ensure_ascii=False
        )
        sys.stderr.write(f"{line}\n")
    else:
        sys.stderr.write(f"bettong: {line}\n")
    return code


def _is_for_programs(arguments: Sequence[str]) -> bool:
    """Return whether `--output json` is among the arguments; it may be their order that is wrong."""
    pairs = itertools.pairwise(arguments)
    return "--output=json" in arguments or any(pair == ("--output", "json") for pair in pairs)


def _with_advice(error: "object") -> str:
    import click

    if not isinstance(error, click.UsageError):
        return str(error)
    command = error.ctx.command_path if error.ctx is not None else "bettong"
    return f"{error.format_message()} (see '{command} --help')"
