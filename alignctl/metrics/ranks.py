"""Ranks of numbers that are known up to rounding: numbers that are equal in truth share theirs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Errors = NDArray[np.float32]

# By how much more than they may differ among themselves equal values must lie off all others.
MARGIN = 4
FEW_DIGITS = 1e-6  # precision of the dtypes that are narrower than float32
# Of the error of the features: roundings that do not conspire add up to less than their bound.
_SHARES = (1, 1 / 8, 1 / 64, 0)


@dataclass(frozen=True, eq=False)
class Rounding:
    """Bounds on how far each of N values may be off, by cause: (N,) each."""

    features: Errors
    """What the numbers that a value was computed from may be off."""
    arithmetic: Errors
    """What its own computation adds."""
    relative: float = 0.0
    """What that adds besides, as a share of the value."""

    def of(self, some: Ints, values: Floats, share: float) -> Floats:
        """The error of some values, where that of the features is a share of its bound."""
        own = self.relative * values + self.arithmetic[some]
        return np.asarray(own + np.float32(share) * self.features[some])

    def may_all_be_one(self, values: Floats) -> bool:
        """Whether the arithmetic alone may have told all values apart."""
        low, high = float(values.min()), float(values.max())
        if high - low > 2 * (float(self.arithmetic.max()) + self.relative * high):
            return False
        errors = self.arithmetic + self.relative * values
        return bool((values - errors).max() <= (values + errors).min())

    def largest(self, value: float) -> float:
        """No value up to this one is off by more."""
        return float(self.features.max()) + float(self.arithmetic.max()) + self.relative * value


def doubled_ranks(values: Floats, rounding: Rounding) -> Ints:
    """Twice the ranks from 1, so that ties, which share their mean rank, have whole numbers: (N,).

    Values are one value if they differ by no more than both may be off, and lie four times as far
    from all others. So values that are equal in truth tie, and those of a continuum, which rounding
    would link into one chain from the least to the largest, keep the order they have.
    """
    order = np.argsort(values)
    tied = _tied(values[order], order, rounding)
    first = np.flatnonzero(np.concatenate([[True], ~tied]))
    end = np.append(first[1:], len(values))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.repeat(first + 1 + end, end - first)
    return ranks


def _tied(ordered: Floats, order: Ints, rounding: Rounding) -> NDArray[np.bool_]:
    """Whether each value but the first is one with that before it: (N - 1,)."""
    gaps = np.diff(ordered)
    tied: NDArray[np.bool_] = gaps == 0
    small = np.flatnonzero(gaps <= 2 * MARGIN * rounding.largest(float(ordered[-1])))
    shares = _smallest_shares(ordered, order, small, rounding)
    follows = np.diff(small, prepend=-2) == 1
    for share in _SHARES:
        first, last = _chains(shares <= share, follows)
        if len(first) == 0:
            break
        low, high = small[first], small[last] + 1
        off = sum(rounding.of(order[end], ordered[end], share) for end in (low, high))
        is_one = ordered[high] - ordered[low] <= off
        _mark(tied, low[is_one], high[is_one])
    return tied


def _mark(tied: NDArray[np.bool_], low: Ints, high: Ints) -> None:
    """Set all from each `low` to before its `high`; no range begins where another ends."""
    tied[low] = True
    if (high - low > 1).any():
        step = np.zeros(len(tied) + 1, dtype=np.int8)
        step[low], step[high] = 1, -1
        tied |= step[:-1].cumsum(dtype=np.int8) > 0


def _chains(linked: NDArray[np.bool_], follows: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """First and last of each run of links; follows: whether a link is next to that before it."""
    goes_on = linked[1:] & linked[:-1] & follows[1:]
    first, last = linked.copy(), linked.copy()
    first[1:] &= ~goes_on
    last[:-1] &= ~goes_on
    return np.flatnonzero(first), np.flatnonzero(last)


def _smallest_shares(ordered: Floats, order: Ints, some: Ints, rounding: Rounding) -> Errors:
    """Of the error of the features, at which some values are linked to the next.

    Negative where the arithmetic alone links them.
    """
    low, high = ordered[some], ordered[some + 1]
    features, arithmetic = (
        2 * errors[:1] if errors.strides == (0,) else errors[order[some]] + errors[order[some + 1]]
        for errors in (rounding.features, rounding.arithmetic)  # one for all under cosine distance
    )
    beyond = (high - low) / MARGIN - rounding.relative * (low + high) - arithmetic
    return np.asarray(beyond / (features + np.finfo(np.float32).tiny), dtype=np.float32)
