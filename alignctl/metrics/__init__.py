"""What is measured between trained models: pure functions, tensors in, numbers out."""

from alignctl.metrics.cka import linear_cka, minibatch_cka
from alignctl.metrics.rsa import rsa
from alignctl.metrics.scoring import Score, compare
from alignctl.metrics.sums.moments import Moments
from alignctl.metrics.weight_distance import WeightGap, weight_gap

__all__ = [
    "Moments",
    "Score",
    "WeightGap",
    "compare",
    "linear_cka",
    "minibatch_cka",
    "rsa",
    "weight_gap",
]
