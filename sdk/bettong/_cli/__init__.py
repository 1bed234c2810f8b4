"""The command line: `bettong --help`."""

import os
import sys
from collections.abc import Sequence

_INTERRUPTED = 130
_FAILED = 1
_MISUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 if it failed, 2 if it was called wrongly, 130 if it was interrupted."""
    import click

    from bettong._cli.commands import cli
    from bettong._errors import BettongError

    try:
        code = cli.main(args=arguments, prog_name="bettong", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _fail(_with_advice(error), _MISUSED)
    except click.ClickException as error:
        return _fail(error.format_message(), _FAILED)
    except BettongError as error:
        return _fail(str(error), _FAILED)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has enough, as in `bettong model list | head -1`; Python must not complain when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"bettong: {line}\n")
    return code


def _with_advice(error: "object") -> str:
    import click

    if not isinstance(error, click.UsageError):
        return str(error)
    command = error.ctx.command_path if error.ctx is not None else "bettong"
    return f"{error.format_message()} (see '{command} --help')"
