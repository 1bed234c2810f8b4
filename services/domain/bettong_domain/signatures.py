"""When an output can be given to an input, and what a chain of models allows."""

from collections.abc import Iterable

from bettong_domain.models import BatchMode, TensorSpec

FREE = -1
"""A dimension that any size fits."""


def fits(given: TensorSpec, wanted: TensorSpec) -> bool:
    """Return whether a tensor like *given* can be an input like *wanted*: same type, rank and fixed dimensions.

    The sizes of free dimensions are only known when a request runs; the engine checks them then.
    """
    return (
        given.datatype == wanted.datatype
        and len(given.shape) == len(wanted.shape)
        and all(have == want or FREE in {have, want} for have, want in zip(given.shape, wanted.shape, strict=True))
    )


def joint_batch_mode(modes: Iterable[BatchMode]) -> BatchMode:
    """Return the mode of a chain: the strictest of its models'."""
    strictness = [BatchMode.ROWS, BatchMode.SINGLE, BatchMode.WHOLE]
    return max(modes, key=strictness.index)
