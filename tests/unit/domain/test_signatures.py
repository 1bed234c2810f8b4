"""When tensors fit, and what a chain allows."""

import pytest
from fakes.values import spec

from bettong_domain.models import BatchMode
from bettong_domain.signatures import fits, joint_batch_mode


@pytest.mark.parametrize(
    ("given", "wanted"),
    [((-1, 3), (-1, 3)), ((1, 3), (-1, 3)), ((-1, -1), (-1, 3)), ((-1, 3), (-1, -1)), ((), ())],
)
def test_equal_and_free_dimensions_fit(given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """A free dimension is decided when a request runs."""
    assert fits(spec("a", *given), spec("b", *wanted))


@pytest.mark.parametrize(("given", "wanted"), [((-1, 3), (-1, 4)), ((-1,), (-1, 1)), ((2, 3), (1, 3))])
def test_other_dimensions_do_not(given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Rank and fixed sizes must agree."""
    assert not fits(spec("a", *given), spec("b", *wanted))


def test_types_must_agree() -> None:
    """Nothing is cast silently between steps."""
    assert not fits(spec("a", -1, datatype="FP64"), spec("b", -1, datatype="FP32"))


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ([BatchMode.ROWS, BatchMode.ROWS], BatchMode.ROWS),
        ([BatchMode.ROWS, BatchMode.SINGLE], BatchMode.SINGLE),
        ([BatchMode.WHOLE, BatchMode.SINGLE, BatchMode.ROWS], BatchMode.WHOLE),
    ],
)
def test_a_chain_is_as_strict_as_its_strictest_model(modes: list[BatchMode], expected: BatchMode) -> None:
    """Rows are joined only if every model takes rows."""
    assert joint_batch_mode(modes) is expected
