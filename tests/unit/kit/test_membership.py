"""What tells a live holder of a name from a dead one."""

import pytest

from bettong_kit.membership.announcing import _is_renewed


@pytest.mark.parametrize(
    ("looks", "renewed"),
    [
        ([(0.0, 4)], False),
        ([(0.0, 4), (0.5, 4), (1.0, 3)], False),
        ([(0.0, 4), (0.5, 3), (1.0, 4)], True),
        ([(0.0, 2), (3.4, 2)], False),
        ([(0.0, 2), (3.6, 2)], True),
    ],
)
def test_a_lease_that_lives_on_is_renewed(looks: list[tuple[float, int]], renewed: bool) -> None:
    """It has more time left than before, or is there after its time."""
    assert _is_renewed(looks) is renewed
