"""Progress for people: shown on a terminal or in a notebook, silent everywhere else."""

import contextlib
import sys
from collections.abc import Callable, Iterator


def is_watched() -> bool:
    """Return whether somebody sees what is printed: a terminal, or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextlib.contextmanager
def byte_progress(label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; it calls what it is given with each number of bytes that are done."""
    if not is_watched():
        yield lambda _: None
        return
    # rich is loaded only where it is seen.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total_bytes)
        yield lambda done: progress.advance(task, done)


@contextlib.contextmanager
def state_progress(label: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner while the block runs; it calls what it is given with each new state."""
    if not is_watched():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - loaded only where it is seen

    console = Console(stderr=True)
    with console.status(label) as status:
        yield lambda state: status.update(f"{label}: {state}")
