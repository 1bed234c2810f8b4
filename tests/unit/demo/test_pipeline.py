"""Looking at what a server answered."""

import numpy as np
import pytest

from bettong._demo.pipeline import probabilities
from bettong._errors import ServerError


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_probability_a_row_is_right(shape: tuple[int, ...]) -> None:
    """The bounds belong to it, and a column of a matrix is as good as a vector."""
    answer = np.array([0.0, 0.25, 1.0]).reshape(shape)
    assert list(probabilities(answer, 3)) == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("answer", [[0.1, 0.2], [0.1, 0.2, 0.3, 0.4], [[0.1, 0.9]] * 3])
def test_a_wrong_number_of_answers_is_an_error(answer: list[float]) -> None:
    """Events must not be matched with the answers of others."""
    with pytest.raises(ServerError, match="3 rows were answered with"):
        probabilities(np.array(answer), 3)


@pytest.mark.parametrize("wrong", [float("nan"), -0.01, 1.01, float("inf")])
def test_what_is_no_probability_is_an_error(wrong: float) -> None:
    """A number that cannot be is not counted as an answer."""
    with pytest.raises(ServerError, match="no probabilities"):
        probabilities(np.array([0.5, wrong]), 2)
