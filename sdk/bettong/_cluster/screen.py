"""The logs of all members side by side, each line behind its member's name."""

import contextlib
import json
import queue
import threading
from collections.abc import Iterator
from typing import TextIO

_COLOURS = (36, 33, 35, 32, 34, 31, 96, 93, 95, 92, 94, 91)
_WAITING_LINES = 10_000
_END_TIMEOUT_S = 2.0
_HIDDEN = frozenset({"timestamp", "level", "event", "component"})


class Screen:
    """Prints lines on a thread of its own: a terminal that takes none must not hold up those who write them."""

    def __init__(self, stream: TextIO, *, width: int, is_terminal: bool) -> None:
        """Prepare to print to *stream*; names are *width* characters wide."""
        self._stream = stream
        self._width = width
        self._is_terminal = is_terminal
        self._colours: dict[str, int] = {}
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING_LINES)
        self._dropped = 0

    def show(self, name: str, line: str) -> None:
        """Print a line of a member, or drop it when too many wait."""
        text = readable(line) if self._is_terminal else line
        try:
            self._lines.put_nowait(f"{self._prefix(name)} {text}\n")
        except queue.Full:
            self._dropped += 1

    def run(self) -> None:
        """Print until `end`."""
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self._lines.empty():
                self._tell_dropped()
        self._tell_dropped()

    def end(self) -> None:
        """Let `run` return when it has printed what waits; not if nobody reads what it prints."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_END_TIMEOUT_S)

    def _tell_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write(f"{self._prefix('cluster')} {dropped} lines were not shown; they are in the files\n")

    def _write(self, line: str) -> None:
        # Whoever read it has enough; the logs are in their files.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line)
            self._stream.flush()

    def _prefix(self, name: str) -> str:
        prefix = f"{name:<{self._width}} |"
        if not self._is_terminal:
            return prefix
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        return f"\033[{colour}m{prefix}\033[0m"


@contextlib.contextmanager
def showing(stream: TextIO, width: int) -> Iterator[Screen]:
    """Show lines inside the block."""
    screen = Screen(stream, width=width, is_terminal=stream.isatty())
    # A daemon: a terminal that takes nothing must not keep the process from ending.
    thread = threading.Thread(target=screen.run, name="bettong-screen", daemon=True)
    thread.start()
    try:
        yield screen
    finally:
        screen.end()
        thread.join(_END_TIMEOUT_S)


def readable(line: str) -> str:
    """Return a line of a structured log as people read it, anything else as it is."""
    entry = parsed(line)
    if "event" not in entry:
        return line
    rest = " ".join(f"{key}={value}" for key, value in entry.items() if key not in _HIDDEN)
    time = str(entry.get("timestamp", ""))[11:19]
    return f"{time} {entry.get('level', ''):<7} {entry['event']} {rest}".strip()


def parsed(line: str) -> dict[str, object]:
    """Return what a structured line holds, nothing for any other."""
    if not line.startswith("{"):
        return {}
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
