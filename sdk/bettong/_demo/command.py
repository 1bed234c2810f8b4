"""`bettong demo`: what can be asked for."""

import math
from pathlib import Path

import click


def _finite(_context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse what no range excludes."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("must be a finite number", param=parameter)
    return value


_RATE = click.FloatRange(min=0, min_open=True, max=1_000_000)
_DURATION = click.FloatRange(min=0, min_open=True)
_PORT = click.IntRange(0, 65_535)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--rate", type=_RATE, callback=_finite, default=2_000, show_default=True, help="Events a second.")
@click.option("--duration", type=_DURATION, callback=_finite, help="Seconds of events; without end if not given.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Equal seeds, equal events.")
@click.option("--port", type=_PORT, default=8_080, show_default=True, help="Port for events; 0 takes any free one.")
@click.option("--data", type=_FOLDER, help="Folder for all state; BETTONG_DATA or ./.bettong if not given.")
@click.option("--view/--no-view", default=True, help="Live view (needs a terminal), or plain lines.")
def demo(*, rate: float, duration: float | None, seed: int, port: int, data: Path | None, view: bool) -> None:
    """Serve a fraud model, stream made-up card transactions through it, and show what happens.

    Starts a server in this process. Ctrl-C answers what is under way and ends; so does the end of --duration. The exit
    code is 1 if an event was not answered, or none was sent.
    """
    # Loaded only by those who run it: `bettong --help` must not wait for numpy.
    from bettong._demo.load import LoadPlan  # noqa: PLC0415
    from bettong._demo.session import run_demo  # noqa: PLC0415

    exit_code = run_demo(LoadPlan(rate, duration, seed), port=port, data=data, is_live=view)
    click.get_current_context().exit(exit_code)
