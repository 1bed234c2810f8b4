"""The source of card transactions."""

from pathlib import Path

import numpy as np
import pytest

from bettong._demo.calendar import DAY_S, USES_PER_DAY, hours, numbers_at, times_s, weekdays
from bettong._demo.generator import TransactionGenerator
from bettong._demo.transactions import COLUMNS, Transactions


@pytest.fixture(scope="module")
def day() -> Transactions:
    return TransactionGenerator(seed=5).take(USES_PER_DAY)


def assert_equal(expected: Transactions, actual: Transactions) -> None:
    assert np.array_equal(expected.card, actual.card)
    assert np.array_equal(expected.is_fraud, actual.is_fraud)
    for name, values in expected.columns.items():
        assert np.array_equal(values, actual.columns[name]), name


def test_equal_seeds_give_equal_transactions() -> None:
    """A run can be repeated."""
    assert_equal(TransactionGenerator(7).take(3_000), TransactionGenerator(7).take(3_000))


def test_other_seeds_give_other_transactions() -> None:
    """The seed decides."""
    first, second = TransactionGenerator(7).take(100), TransactionGenerator(8).take(100)
    assert not np.array_equal(first.columns["amount_eur"], second.columns["amount_eur"])


@pytest.mark.parametrize("portions", [[1] * 5, [1_023, 2, 1_023], [1_024, 1_024], [2_500, 1]])
def test_portions_do_not_matter(portions: list[int]) -> None:
    """The rate at which they are taken changes nothing."""
    whole = TransactionGenerator(9).take(sum(portions))
    generator, start = TransactionGenerator(9), 0
    for portion in portions:
        assert_equal(whole.between(start, start + portion), generator.take(portion))
        start += portion


def test_columns_are_those_that_are_documented(day: Transactions) -> None:
    """Names, order, type and length hold; nothing is missing or infinite."""
    assert [column.name for column in COLUMNS] == list(day.columns)
    for name, values in day.columns.items():
        assert values.dtype == np.float32
        assert len(values) == len(day)
        assert np.isfinite(values).all(), name


def test_values_are_in_the_range_of_their_units(day: Transactions) -> None:
    """What the documentation says about a column holds for every value."""
    columns = day.columns
    assert columns["amount_eur"].min() >= 0.01
    assert columns["hour"].min() >= 0
    assert columns["hour"].max() <= 24
    assert set(np.unique(columns["weekday"])) == {0.0}
    assert columns["seconds_since_last"].min() >= 1
    assert 0 <= columns["merchant_risk"].min() <= columns["merchant_risk"].max() <= 1
    assert set(np.unique(columns["card_present"])) == {0.0, 1.0}
    assert set(np.unique(columns["foreign"])) == {0.0, 1.0}
    for name in ("distance_home_km", "distance_last_km", "card_age_days", "amount_mean_eur", "uses_24h"):
        assert columns[name].min() >= 0, name


def test_some_but_few_transactions_are_fraud(day: Transactions) -> None:
    """The share of fraud is near the one that is aimed at, and fraud looks different on the whole."""
    assert 0.01 < day.is_fraud.mean() < 0.025
    risk = day.columns["merchant_risk"]
    assert risk[day.is_fraud].mean() > 2 * risk[~day.is_fraud].mean()


def test_a_cards_past_fits_its_earlier_transactions(day: Transactions) -> None:
    """The time since the last use and the weighed number of uses can be computed again from the events before."""
    moment_s = times_s(np.arange(len(day)))
    card = np.bincount(day.card).argmax()
    (rows,) = np.nonzero(day.card == card)
    since_s = np.diff(moment_s[rows])
    assert len(rows) > 10
    assert day.columns["seconds_since_last"][rows][1:] == pytest.approx(np.maximum(since_s, 1.0), abs=0.5)
    uses = day.columns["uses_24h"][rows].astype(np.float64)
    assert uses[1:] == pytest.approx((uses[:-1] + 1) * np.exp(-since_s / DAY_S), abs=0.011)


def test_a_stolen_card_is_used_again_soon(day: Transactions) -> None:
    """Thefts come as episodes, not as single events."""
    since_s = day.columns["seconds_since_last"]
    assert np.median(since_s[day.is_fraud]) < 1_000 < np.median(since_s[~day.is_fraud])


def test_a_record_has_plain_numbers(day: Transactions) -> None:
    """A record can be written as JSON and stands for the same float32 values."""
    record = day.record(17)
    assert list(record) == list(day.columns)
    for name, value in record.items():
        assert type(value) is float
        assert np.float32(value) == day.columns[name][17]


def test_the_clock_and_its_inverse_agree() -> None:
    """The transaction at the time of a transaction is that one or, by rounding, its neighbour."""
    numbers = np.arange(0, 3 * USES_PER_DAY, 997)
    assert np.abs(numbers_at(times_s(numbers)) - numbers).max() <= 1


def test_the_clock_goes_forward_through_days_and_weeks() -> None:
    """Time grows with the number; the eighth day is a Monday again."""
    moment_s = times_s(np.arange(0, 8 * USES_PER_DAY, 100))
    assert (np.diff(moment_s) > 0).all()
    assert list(weekdays(np.arange(8, dtype=np.float64) * DAY_S + 1.0)) == [0, 1, 2, 3, 4, 5, 6, 0]
    assert hours(np.array([DAY_S * 3 + 12.5 * 3_600]))[0] == 12.5


def test_the_documented_columns_are_these() -> None:
    """The table of the example's README says the same as the code."""
    readme = (Path(__file__).parents[3] / "examples/fraud/README.md").read_text()
    for column in COLUMNS:
        assert f"| `{column.name}` | {column.unit} | {column.meaning} |" in readme
