"""From an optimiser's config to the optimiser."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from alignctl.config.training import OptimizerConfig
from alignctl.training.lars import LARS

# By the `name` of the config, whose other keys are the arguments.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "lars": LARS,
    "sgd": torch.optim.SGD,
    "adamw": torch.optim.AdamW,
}


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimiser over those parameters that are trained."""
    options: dict[str, Any] = config.model_dump(exclude={"name", "learning_rate"})
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return OPTIMIZERS[config.name](trained, lr=config.learning_rate, **options)
