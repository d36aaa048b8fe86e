"""LARS: stochastic gradient descent whose step adapts to the norm of each tensor."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT


class LARS(Optimizer):
    """Momentum SGD that scales each tensor's step by trust_coefficient * |w| / |gradient|.

    With g the gradient plus weight_decay * w and r = trust_coefficient * |w| / |g|:
    v <- momentum * v + lr * r * g;  w <- w - v. The norms are those of a whole tensor.
    A tensor of zeros has r = 0 and so does not move; nor does a gradient of zeros add to v.

    lr: >= 0; momentum: in [0, 1); weight_decay: >= 0; trust_coefficient: > 0. Tensors of at most
    one dimension, that is biases and norm parameters, get r = 1 and no decay, unless
    exclude_bias_and_norm is false. The learning rate acts inside the momentum, so that a step
    taken keeps its size when the rate changes later. A step never waits for the accelerator.
    Raises ValueError for a setting out of range.
    Source: You et al. 2017 (arXiv 1708.03888), algorithm 1.
    """

    def __init__(  # noqa: PLR0917 (the order in which optimisers of torch take them)
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        exclude_bias_and_norm: bool = True,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr: must not be negative, got {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: must lie in [0, 1), got {momentum}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay: must not be negative, got {weight_decay}")
        if not trust_coefficient > 0:
            raise ValueError(f"trust_coefficient: must be positive, got {trust_coefficient}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "exclude_bias_and_norm": exclude_bias_and_norm,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; return what `closure` returns, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        weights = [w for w in group["params"] if w.grad is not None]
        min_ndim = 2 if group["exclude_bias_and_norm"] else 0
        adapted = [w for w in weights if w.ndim >= min_ndim]
        plain = [w for w in weights if w.ndim < min_ndim]
        if adapted:
            gradients = _adapted_gradients(adapted, [w.grad for w in adapted], group)
            self._move(adapted, gradients, group)
        if plain:
            self._move(plain, [w.grad for w in plain], group)

    def _move(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        velocities = [self._velocity(w) for w in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients, alpha=group["lr"])
        torch._foreach_sub_(weights, velocities)

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity: Tensor = state["velocity"]
        return velocity


def _adapted_gradients(
    weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
) -> list[Tensor]:
    """Each gradient plus its weight's decay, times the trust ratio; the inputs stay as they are."""
    decayed = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
    weight_norms = torch.stack(torch._foreach_norm(weights))
    gradient_norms = torch.stack(torch._foreach_norm(decayed))
    ratios = group["trust_coefficient"] * weight_norms / gradient_norms
    # A gradient of zeros: 0, where the division gives inf or NaN.
    ratios = torch.where(gradient_norms > 0, ratios, torch.zeros_like(ratios))
    torch._foreach_mul_(decayed, ratios.unbind())
    return list(decayed)
