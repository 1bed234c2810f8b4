"""Figures as people read them."""

import math

_NONE = "\N{EN DASH}"


def latency(seconds: float) -> str:
    """Return a latency in milliseconds, with three digits; a dash if there is none."""
    if math.isnan(seconds):
        return _NONE
    milliseconds = seconds * 1_000
    decimals = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0  # noqa: PLR2004 - three digits in all
    return f"{milliseconds:.{decimals}f} ms"


def share(value: float) -> str:
    """Return a share in percent; a dash if there is none."""
    return _NONE if math.isnan(value) else f"{value:.1%}"


def rows(mean: float) -> str:
    """Return a mean number of rows; a dash if there is none."""
    return _NONE if math.isnan(mean) else f"{mean:.1f} rows"
