"""Leaving alone what brought this process down: a program, or a model that could not even be loaded."""

import json
from collections.abc import Mapping
from pathlib import Path

from bettong_domain.plans import Program
from bettong_kit.clock import Clock
from bettong_kit.errors import DataFolderError, UnavailableError
from bettong_kit.logging import get_logger

_log = get_logger("quarantine")
CRASHES = 3
"""How often something may bring the process down within the time that counts."""
_COUNTED_MS = 24 * 3_600_000
"""How long a crash counts; after that it is tried again."""


class Quarantine:
    """Remembers, over restarts, what was running when the process died."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Read what the processes before left in a locked data folder.

        Raises:
            DataFolderError: The folder cannot be read or written.
        """
        self.record = folder / "crashes"
        """Where the engine notes what a dying thread was running."""
        self._clock = clock
        self._file = folder / "quarantine.json"
        try:
            self._crashes = self._counted(_read(self._file), self.record)
            _replace(self._file, self._crashes)
            # Only now: dying in between must not lose a crash, counting it twice is no harm.
            self.record.unlink(missing_ok=True)
        except OSError as error:
            raise DataFolderError(f"data folder {folder} cannot be used: {error.strerror}") from error

    def check(self, program: Program) -> None:
        """Refuse a program that must not run here for now.

        Raises:
            UnavailableError: It, or a model of it, brought this process down too often; with the time until that does not count any more.
        """
        names = {f"load {model_id}": "a model of it" for model_id in program.model_ids}
        names[f"run {program.key.name} {program.key.version}"] = "it"
        for name, what in names.items():
            recent_ms = self._recent(name)
            if len(recent_ms) >= CRASHES:
                until_ms = min(recent_ms) + _COUNTED_MS
                raise UnavailableError(
                    f"{what} brought this executor down {len(recent_ms)} times; it is tried again a day after",
                    retry_after_s=(until_ms - self._clock.epoch_ms()) / 1000,
                )

    def _recent(self, name: str) -> list[int]:
        oldest_ms = self._clock.epoch_ms() - _COUNTED_MS
        return [when_ms for when_ms in self._crashes.get(name, []) if when_ms > oldest_ms]

    def _counted(self, before: Mapping[str, list[int]], record: Path) -> dict[str, list[int]]:
        """Return the crashes that count, with those that the last process noted."""
        self._crashes = dict(before)
        crashes = {name: recent for name in before if (recent := self._recent(name))}
        lines = record.read_text(encoding="utf-8", errors="replace").splitlines() if record.exists() else []
        for line in lines:
            crashes[line] = [*crashes.get(line, []), self._clock.epoch_ms()][-CRASHES:]
            _log.error("process_had_died", running=line, times=len(crashes[line]))
        return crashes


def _read(file: Path) -> dict[str, list[int]]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): [int(when_ms) for when_ms in times] for name, times in document.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        _log.warning("quarantine_unreadable", file=file.name)
        return {}


def _replace(file: Path, crashes: Mapping[str, list[int]]) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(crashes), encoding="utf-8")
    temporary.replace(file)
