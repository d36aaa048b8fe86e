"""A number and how far it may be from what it estimates."""

import math
from dataclasses import dataclass
from typing import Literal

IntervalKind = Literal["simple", "stratified", "batches"]


@dataclass(frozen=True)
class Estimate:
    """A similarity measured on a sample of images."""

    value: float
    standard_error: float | None = None
    """Of sampling other images from the same source; None where it is not known."""
    num_images: int | None = None
    """How many of the images took part; None for all."""
    degrees_of_freedom: float = math.inf
    """Of the standard error."""
    interval_kind: IntervalKind = "simple"
    """What is taken as given; see `Score.interval`."""
    no_interval: str | None = None
    """Why the standard error is not known, where the metric has one otherwise."""
    note: str | None = None
    """What has to be known to read it."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """Student's confidence interval; (nan, nan) where the standard error is not known.

        confidence: in (0, 1). Never cut to the range of the score.
        """
        if self.standard_error is None:
            return math.nan, math.nan
        from scipy.special import stdtrit

        quantile = float(stdtrit(self.degrees_of_freedom, 0.5 + confidence / 2))
        reach = quantile * self.standard_error
        return self.value - reach, self.value + reach
