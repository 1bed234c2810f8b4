"""A seeded source of card transactions with fraud in it.

20,000 cards are used three times a day on average, more by day than by night. A card's past is carried along, so that the
columns of a transaction fit those of the card's earlier ones. Now and then a card falls into the wrong hands and is used
a few times in quick succession: mostly online, far from home, abroad, at dubious merchants, for a small amount to try the
card or for a large one. Some thieves behave like the holder, and some holders travel, so no model finds everything.

The clock is the generator's own: one transaction follows another after 1.4 s on average, however fast they are taken.
Equal seeds give equal transactions, in whatever portions they are taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bettong._demo.calendar import DAY_S, hours, numbers_at, times_s, weekdays
from bettong._demo.cards import CARDS, Cards, Past, Uses
from bettong._demo.transactions import COLUMNS, Transactions, joined

_BLOCK = 1_024
"""Transactions that are made at once."""
_THEFTS_PER_DAY = 260.0
_MEAN_LATER_USES = 2.5
_MEAN_GAP_S = 240.0
_UNREMARKABLE = 0.15
"""Share of the fraud that looks like the holder's own use."""
_TRIAL = 0.5
"""Share of the thefts that begin with a small amount."""


class TransactionGenerator:
    """Transactions without end; `take` the next ones."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._cards = Cards(self._rng)
        self._made = 0
        self._left_over: Transactions | None = None
        self._planned = _Thefts(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))

    def take(self, count: int) -> Transactions:
        """Return the next *count* transactions, at least one."""
        parts = [self._left_over] if self._left_over is not None else []
        while sum(map(len, parts)) < count:
            parts.append(self._block())
        ready = joined(parts) if len(parts) > 1 else parts[0]
        self._left_over = ready.between(count, len(ready)) if len(ready) > count else None
        return ready.between(0, count)

    def _block(self) -> Transactions:
        numbers = np.arange(self._made, self._made + _BLOCK)
        self._made += _BLOCK
        moment_s = times_s(numbers)
        card = self._cards.draw(self._rng, _BLOCK)
        is_fraud, is_first = self._steal(numbers, card)
        drawn = self._draw(card, is_fraud, is_first)
        uses = Uses(card, moment_s, drawn.place_km, np.maximum(drawn.amount_eur.round(2), 0.01))
        past = self._cards.use(uses)
        return Transactions(_rounded(self._columns(uses, drawn, past)), card, is_fraud)

    def _steal(
        self, numbers: NDArray[np.int64], card: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Plan thefts that begin now, and give the numbers that are due to the stolen cards."""
        begin_s, end_s = times_s(numbers[[0, -1]])
        count = int(self._rng.poisson(_THEFTS_PER_DAY * (end_s - begin_s) / DAY_S))
        self._planned = self._planned.with_more(_plan(self._rng, self._rng.uniform(begin_s, end_s, count)))
        due, self._planned = self._planned.split(int(numbers[-1]))
        rows = np.clip(due.number - numbers[0], 0, None)
        is_fraud, is_first = np.zeros(len(card), np.bool_), np.zeros(len(card), np.bool_)
        card[rows], is_fraud[rows], is_first[rows] = due.card, True, due.is_first
        return is_fraud, is_first

    def _draw(self, card: NDArray[np.int64], is_fraud: NDArray[np.bool_], is_first: NDArray[np.bool_]) -> "_Drawn":
        """Draw how each card is used, by its holder or by a thief."""
        rng, count = self._rng, len(card)
        obvious = is_fraud & (rng.random(count) > _UNREMARKABLE)
        travels = rng.random(count) < np.where(obvious, 0.75, 0.03)
        away_km = np.where(travels, rng.lognormal(6.2, 0.8, count), rng.lognormal(1.4, 1.0, count))
        angle = rng.uniform(0.0, 2 * np.pi, count)
        tries = obvious & is_first & (rng.random(count) < _TRIAL)
        log_amount = np.where(obvious, 5.2, self._cards.log_amount[card])
        log_amount = np.where(tries, 1.1, log_amount) + rng.normal(0.0, 0.8, count)
        return _Drawn(
            place_km=self._cards.home_km[card] + (away_km * np.stack([np.cos(angle), np.sin(angle)])).T,
            away_km=away_km,
            amount_eur=np.exp(log_amount),
            merchant_risk=np.where(obvious, rng.beta(2.5, 12.0, count), rng.beta(1.5, 30.0, count)),
            card_present=(rng.random(count) < np.where(obvious, 0.15, 0.7)).astype(np.float64),
            foreign=(rng.random(count) < np.where(travels, 0.45, 0.03)).astype(np.float64),
        )

    def _columns(self, uses: Uses, drawn: "_Drawn", past: Past) -> Mapping[str, NDArray[np.float64]]:
        return {
            "amount_eur": uses.amount_eur,
            "hour": hours(uses.moment_s),
            "weekday": weekdays(uses.moment_s),
            "seconds_since_last": np.maximum(past.seconds_since_last, 1.0),
            "distance_home_km": drawn.away_km,
            "distance_last_km": past.distance_last_km,
            "merchant_risk": drawn.merchant_risk,
            "card_present": drawn.card_present,
            "foreign": drawn.foreign,
            "card_age_days": self._cards.age_days(uses.card, uses.moment_s),
            "amount_mean_eur": past.amount_mean_eur,
            "uses_24h": past.uses_24h,
        }


@dataclass(frozen=True, slots=True)
class _Drawn:
    """How each card is used."""

    place_km: NDArray[np.float64]
    away_km: NDArray[np.float64]
    amount_eur: NDArray[np.float64]
    merchant_risk: NDArray[np.float64]
    card_present: NDArray[np.float64]
    foreign: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Thefts:
    """Uses by thieves: at which number of a transaction, of which card."""

    number: NDArray[np.int64]
    card: NDArray[np.int64]
    is_first: NDArray[np.bool_]

    def with_more(self, other: "_Thefts") -> "_Thefts":
        """Return these and *other*."""
        return _Thefts(
            np.concatenate([self.number, other.number]),
            np.concatenate([self.card, other.card]),
            np.concatenate([self.is_first, other.is_first]),
        )

    def split(self, last: int) -> tuple["_Thefts", "_Thefts"]:
        """Return those up to number *last*, and those after it."""
        due = self.number <= last
        return self._only(due), self._only(~due)

    def _only(self, rows: NDArray[np.bool_]) -> "_Thefts":
        return _Thefts(self.number[rows], self.card[rows], self.is_first[rows])


def _plan(rng: np.random.Generator, start_s: NDArray[np.float64]) -> _Thefts:
    """Draw the uses of cards that are stolen at the given times."""
    later = rng.poisson(_MEAN_LATER_USES, len(start_s))
    first = np.cumsum(later + 1) - (later + 1)
    theft = np.repeat(np.arange(len(start_s)), later + 1)
    gap_s = rng.exponential(_MEAN_GAP_S, len(theft))
    gap_s[first] = 0.0
    waited_s = np.cumsum(gap_s)
    moment_s = start_s[theft] + waited_s - waited_s[first][theft]
    is_first = np.zeros(len(theft), np.bool_)
    is_first[first] = True
    return _Thefts(numbers_at(moment_s), rng.integers(0, CARDS, len(start_s))[theft], is_first)


def _rounded(columns: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float32]]:
    """Keep the digits that the columns promise, in their order."""
    return {column.name: columns[column.name].round(column.decimals).astype(np.float32) for column in COLUMNS}
