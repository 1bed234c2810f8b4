"""Saying once that a setting has no effect."""

import threading
import warnings


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
    warnings.warn(f"{setting} has no effect: {reason}", IgnoredSettingWarning, stacklevel=4)
