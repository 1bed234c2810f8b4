"""What a card transaction looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FLAG_THRESHOLD = 0.5
"""A transaction is flagged when its probability of fraud is above this."""


@dataclass(frozen=True, slots=True)
class Column:
    """One number that is known about a transaction at the moment when it is to be approved."""

    name: str
    unit: str
    meaning: str
    decimals: int
    """Digits after the point that are kept: what a till would report, and the same on every machine."""


COLUMNS = (
    Column("amount_eur", "EUR", "what is to be paid", 2),
    Column("hour", "h, 0 to 24", "local time of day, with fraction", 3),
    Column("weekday", "day, 0 to 6", "day of the week, 0 is Monday", 0),
    Column("seconds_since_last", "s", "time since the card was used last", 0),
    Column("distance_home_km", "km", "from the holder's home to where the card is used, or to the device if online", 1),
    Column("distance_last_km", "km", "from where the card was used last", 1),
    Column("merchant_risk", "share, 0 to 1", "the merchant's past sales that were disputed, smoothed", 3),
    Column("card_present", "0 or 1", "1 if the chip was read, 0 if the number was typed", 0),
    Column("foreign", "0 or 1", "1 if the merchant is in another country than the bank", 0),
    Column("card_age_days", "d", "since the card was issued", 0),
    Column("amount_mean_eur", "EUR", "running mean of what was paid with the card before, the newest weighs 1/20", 2),
    Column("uses_24h", "count", "uses before this one, each weighed by exp(-age / 24 h)", 2),
)
"""The inputs of the pipeline, in order; each is a float32."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """Transactions in the order of their time, as columns of equal length."""

    columns: dict[str, NDArray[np.float32]]
    """By name, in the order of `COLUMNS`."""
    card: NDArray[np.int64]
    """Number of the card; the model never sees it."""
    is_fraud: NDArray[np.bool_]
    """The truth; the model never sees it."""

    def __len__(self) -> int:
        return len(self.card)

    def between(self, start: int, stop: int) -> Self:
        """Return the transactions from *start* to before *stop*."""
        part = slice(start, stop)
        columns = {name: values[part] for name, values in self.columns.items()}
        return type(self)(columns, self.card[part], self.is_fraud[part])

    def record(self, row: int) -> dict[str, float]:
        """Return what the model sees of one transaction, rounded to the decimals of its columns."""
        return {column.name: round(float(self.columns[column.name][row]), column.decimals) for column in COLUMNS}


def joined(parts: Sequence[Transactions]) -> Transactions:
    """Return the transactions of all *parts*, of which there is at least one, in order."""
    columns = {column.name: np.concatenate([part.columns[column.name] for part in parts]) for column in COLUMNS}
    card = np.concatenate([part.card for part in parts])
    return Transactions(columns, card, np.concatenate([part.is_fraud for part in parts]))
