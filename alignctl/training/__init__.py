"""Training: optimisers and learning-rate schedules."""

from alignctl.training.lars import LARS

__all__ = ["LARS"]
