"""What is measured between trained models: pure functions, tensors in, numbers out."""

from alignctl.metrics.cka import linear_cka
from alignctl.metrics.moments import Moments
from alignctl.metrics.rsa import rsa
from alignctl.metrics.weight_gap import WeightGap, weight_gap

__all__ = ["Moments", "WeightGap", "linear_cka", "rsa", "weight_gap"]
