import math

import pytest
import torch

from alignctl.metrics.scale import largest_entry, scale_to_one


@pytest.mark.parametrize("size", [1e-310, 1e-160, 0.3, 1.0, 7.0, 1e160, 1.7e308])
def test_scale_is_a_power_of_two_that_brings_numbers_near_one(size):
    scale = float(scale_to_one(torch.tensor(size, dtype=torch.float64)))
    assert math.frexp(scale)[0] == 0.5
    assert 1e-10 < size * scale < 8
    if 1e-300 < size < 1e300:
        assert 0.5 <= size * scale < 1


def test_zero_keeps_its_scale():
    assert float(scale_to_one(torch.zeros(()))) == 1


def test_largest_entry_is_that_of_either_sign():
    assert float(largest_entry(torch.tensor([[1.0, -3.0], [2.0, 0.0]]))) == 3
    assert float(largest_entry(torch.zeros(0, 3))) == 0
