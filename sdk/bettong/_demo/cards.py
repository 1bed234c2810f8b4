"""Cards and their past, as arrays with one entry a card."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bettong._demo.calendar import DAY_S

CARDS = 20_000
_MEAN_WEIGHT = 1 / 20
_RENEWED_AFTER_DAYS = 3_000
_LAND_KM = 400.0
"""Side of the square in which the holders live."""


@dataclass(frozen=True, slots=True)
class Uses:
    """Cards in use: which, when, where and for how much; columns of equal length, in the order of time."""

    card: NDArray[np.int64]
    moment_s: NDArray[np.float64]
    place_km: NDArray[np.float64]
    """East and north, one row a use."""
    amount_eur: NDArray[np.float64]

    def only(self, rows: NDArray[np.int64]) -> "Uses":
        """Return some of them."""
        return Uses(self.card[rows], self.moment_s[rows], self.place_km[rows], self.amount_eur[rows])


@dataclass(frozen=True, slots=True)
class Past:
    """What was known about the card just before each use."""

    seconds_since_last: NDArray[np.float64]
    distance_last_km: NDArray[np.float64]
    amount_mean_eur: NDArray[np.float64]
    uses_24h: NDArray[np.float64]


class Cards:
    """All cards; every use changes what is known before the next one."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.home_km = rng.uniform(0.0, _LAND_KM, (CARDS, 2))
        self.log_amount = rng.normal(3.3, 0.6, CARDS)
        self._age_days_at_start = rng.integers(0, _RENEWED_AFTER_DAYS, CARDS).astype(np.float64)
        eagerness = rng.lognormal(0.0, 0.7, CARDS)
        self._share_up_to = np.cumsum(eagerness) / eagerness.sum()
        self._last_s = -rng.exponential(DAY_S / 3, CARDS)
        self._last_km = self.home_km.copy()
        self._amount_mean_eur = np.exp(self.log_amount + 0.3)
        self._uses_24h = 3.0 * eagerness / eagerness.mean()

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw cards to be used by their holders; some people pay by card more often than others."""
        return np.searchsorted(self._share_up_to, rng.random(count), side="right").clip(max=CARDS - 1)

    def age_days(self, card: NDArray[np.int64], moment_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how long ago each card was issued; a card that is too old has been replaced by a new one."""
        return (self._age_days_at_start[card] + moment_s // DAY_S) % _RENEWED_AFTER_DAYS

    def use(self, uses: Uses) -> Past:
        """Note *uses* and return what was known before each of them."""
        count = len(uses.card)
        past = Past(np.empty(count), np.empty(count), np.empty(count), np.empty(count))
        for rows in _waves(uses.card):
            self._use_once(uses.only(rows), past, rows)
        return past

    def _use_once(self, uses: Uses, past: Past, rows: NDArray[np.int64]) -> None:
        """Note uses of cards that differ from each other; what was known before goes to *rows* of *past*."""
        card = uses.card
        since_s = uses.moment_s - self._last_s[card]
        faded = self._uses_24h[card] * np.exp(-since_s / DAY_S)
        past.seconds_since_last[rows] = since_s
        past.distance_last_km[rows] = np.hypot(*(uses.place_km - self._last_km[card]).T)
        past.amount_mean_eur[rows] = self._amount_mean_eur[card]
        past.uses_24h[rows] = faded
        self._last_s[card] = uses.moment_s
        self._last_km[card] = uses.place_km
        self._amount_mean_eur[card] += _MEAN_WEIGHT * (uses.amount_eur - self._amount_mean_eur[card])
        self._uses_24h[card] = faded + 1.0


def _waves(card: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split rows so that no card comes twice in a wave: the first use of each card, then the second ones, and so on."""
    order = np.argsort(card, kind="stable")
    starts = np.flatnonzero(np.diff(card[order], prepend=-1))
    lengths = np.diff(starts, append=len(card))
    turn = np.arange(len(card)) - np.repeat(starts, lengths)
    return [order[turn == wave] for wave in range(int(lengths.max()))]
