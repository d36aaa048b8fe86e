"""A number and how far it may be from what it estimates."""

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Estimate:
    """A similarity measured on a sample of images."""

    value: float
    standard_error: float | None = None
    """Of sampling other images from the same source; None where it is not known."""
    num_images: int | None = None
    """How many of the images took part; None for all."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """The normal confidence interval; (nan, nan) where the standard error is not known.

        confidence: in (0, 1). Never cut to the range of the score.
        """
        if self.standard_error is None:
            return math.nan, math.nan
        reach = NormalDist().inv_cdf(0.5 + confidence / 2) * self.standard_error
        return self.value - reach, self.value + reach
