"""Saying once that a setting has no effect."""

import inspect
import threading
import warnings
from pathlib import Path


class IgnoredSettingWarning(UserWarning):
    """A setting was accepted and has no effect on this server."""


_lock = threading.Lock()
_reported: set[str] = set()


def warn_ignored(setting: str, reason: str) -> None:
    """Warn about a setting, once in this process."""
    with _lock:
        if setting in _reported:
            return
        _reported.add(setting)
    warnings.warn(f"{setting} has no effect: {reason}", IgnoredSettingWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return how far up the code of the user is, for whom the warning is."""
    ours = str(Path(__file__).parent)
    level, frame = 1, inspect.currentframe()
    frame = frame.f_back if frame else None
    while frame is not None and frame.f_code.co_filename.startswith(ours):
        level, frame = level + 1, frame.f_back
    return level
