"""From an optimiser's config to the optimiser."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from alignctl.config.training_config import OptimizerConfig
from alignctl.training.lars import LARS

# By the `name` of the config, whose other keys are the arguments.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "lars": LARS,
    "sgd": torch.optim.SGD,
    "adamw": torch.optim.AdamW,
}


def build_optimizer(
    config: OptimizerConfig,
    parameters: Iterable[nn.Parameter],
    *,
    own_groups: Sequence[tuple[Iterable[nn.Parameter], Mapping[str, Any]]] = (),
) -> Optimizer:
    """The optimiser over those parameters that are trained, in one group.

    own_groups: parameters that form groups of their own behind it, each with the options in which
    it differs. Raises ValueError for an option that the optimiser does not have.
    """
    options: dict[str, Any] = config.model_dump(exclude={"name", "learning_rate"})
    optimizer = OPTIMIZERS[config.name](_trained(parameters), lr=config.learning_rate, **options)
    for group, differing in own_groups:
        unknown = sorted(set(differing) - set(optimizer.defaults))
        if "lr" in differing:
            raise ValueError("lr: the study's learning rate holds; see learning_rate_factor")
        if unknown:
            raise ValueError(f"the optimiser {config.name} has no option {', '.join(unknown)}")
        optimizer.add_param_group({"params": _trained(group), **differing})
    return optimizer


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
