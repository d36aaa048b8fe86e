"""Powers of two that bring numbers near 1, so that their squares neither overflow nor vanish."""

import torch
from torch import Tensor

_LARGEST_EXPONENT = 1021  # its power of two and the inverse are both normal numbers in float64


def scale_to_one(largest: Tensor) -> Tensor:
    """Powers of two whose product with `largest` is in [0.5, 1), and 1 for 0: float64.

    largest: any shape, floating-point, finite, not negative. Near the ends of float64 the product
    is within a factor of 8 of that, or up to 2^53 smaller for numbers that are not normal.
    """
    exponents = torch.frexp(largest.double()).exponent
    return torch.exp2(-exponents.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).double())


def largest_entry(values: Tensor) -> Tensor:
    """The largest absolute value: (), in the dtype of `values`, which are not copied."""
    if values.numel() == 0:
        return values.new_zeros(())
    low, high = torch.aminmax(values)
    return torch.maximum(-low, high)
