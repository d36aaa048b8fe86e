"""Batch norm whose statistics are those of the whole batch, of which each process has a share."""

import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from alignctl.errors import ConfigError
from alignctl.processes import Processes


def synchronise_batch_norm(module: nn.Module, peers: Processes) -> None:
    """Make every batch norm inside `module` see the batch of all peers; alone, all stays as it is.

    Parameters and buffers stay the same objects under the same names. torch's own SyncBatchNorm
    does not work on CPUs.
    Raises ConfigError for other layers with batch statistics, which are not supported here.
    """
    assert not isinstance(module, _BatchNorm), "a module cannot be replaced inside itself"
    if peers.size == 1:
        return
    for path, parent in list(module.named_modules()):
        for name, child in parent._modules.items():
            if child is not None and _has_statistics(child):
                where = f"{path}.{name}" if path else name
                setattr(parent, name, _synchronised(child, peers, where))


def _has_statistics(layer: nn.Module) -> bool:
    """Whether its output for an image depends on the other images of the batch."""
    tracked = [layer._buffers.get(name) for name in ("running_mean", "running_var")]
    return isinstance(layer, _BatchNorm) or any(buffer is not None for buffer in tracked)


def _synchronised(layer: Any, peers: Processes, name: str) -> "SynchronisedBatchNorm":
    timm_norms = sys.modules.get("timm.layers.norm_act")  # there, if the layer is of timm
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return SynchronisedBatchNorm(layer, peers)
    if timm_norms is not None and type(layer) is timm_norms.BatchNormAct2d:
        return _SynchronisedBatchNormAct(layer, peers)
    raise ConfigError(
        f"placement: '{name}' is a {type(layer).__name__}, whose statistics processes cannot "
        "share; only placement=objectives trains such a model"
    )


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm over all peers' values while training, and as `original` in evaluation.

    All peers have to come here together, forwards and backwards. The gradients that weight and
    bias receive are this process's part: the parts of all peers add up to the whole.
    """

    def __init__(self, original: _BatchNorm, peers: Processes) -> None:
        super().__init__(
            original.num_features,
            original.eps,
            original.momentum,
            original.affine,
            original.track_running_stats,
            device="meta",
        )
        for name in (*original._parameters, *original._buffers):
            setattr(self, name, getattr(original, name))
        self.train(original.training)
        self.peers = peers

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm: expected at least two dimensions, got {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        """The values (N, C, ...) normalised per channel, in their dtype and memory format.

        Raises ValueError where all peers together have one value per channel.
        """
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        moments = moments_over_peers(input.detach(), self.peers)
        if self.track_running_stats:
            self._track(moments)
        moments = replace(moments, variance=moments.variance + self.eps)
        output: Tensor = _Normalise.apply(input, self.weight, self.bias, moments)
        return output

    @torch.no_grad()
    def _track(self, moments: "Moments") -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum: Any = self.momentum
        if momentum is None:  # mean of all batches; reading the number would stall an accelerator
            momentum = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        unbiased = moments.variance * (moments.num_values / (moments.num_values - 1))
        self.running_mean.lerp_(moments.mean, momentum)
        self.running_var.lerp_(unbiased, momentum)


class _SynchronisedBatchNormAct(SynchronisedBatchNorm):
    """timm's batch norm, which is followed by a dropout and an activation of its own."""

    def __init__(self, original: _BatchNorm, peers: Processes) -> None:
        super().__init__(original, peers)
        self.drop: Any = original.drop
        self.act: Any = original.act

    def forward(self, input: Tensor) -> Tensor:
        """The normalised values after the activation."""
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output


@dataclass(frozen=True, eq=False)
class Moments:
    """Of each channel over all peers: at least float32, and the same bits on every peer."""

    mean: Tensor
    """(C,)."""
    variance: Tensor
    """(C,): the mean square of the distance from the mean."""
    num_values: Tensor
    """0-d: of one channel."""
    peers: Processes


def moments_over_peers(values: Tensor, peers: Processes) -> Moments:
    """The moments of each channel of (N, C, ...), where each peer has N of its own.

    Raises ValueError where all peers together have one value per channel.
    """
    channels = values.shape[1]
    num_own = values.numel() // channels
    if num_own * peers.size < 2:
        shape = tuple(values.shape)
        raise ValueError(f"batch norm: values of shape {shape} have no variance within a channel")
    mean, variance = _own_moments(values)
    own = torch.cat([mean, variance, mean.new_full((1,), num_own)])
    means, variances, counts = torch.split(
        peers.gather_tensor(own[None], dim=0), [channels, channels, 1], dim=1
    )
    # Chan et al. 1983, eq. 2.1, for any number of parts; never a difference of large sums
    shares = counts / counts.sum()
    mean = (shares * means).sum(dim=0)
    variance = (shares * (variances + (means - mean).square())).sum(dim=0)
    return Moments(mean, variance, counts.sum(), peers)


def _own_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of this process's share, by batch norm's own kernel.

    torch.var_mean takes several times as long on CPUs, and returns bfloat16 for bfloat16.
    """
    # Unused running statistics: without them a CPU computes in the dtype of the values.
    dtype = torch.promote_types(values.dtype, torch.float32)
    scratch = values.new_zeros(2, values.shape[1], dtype=dtype)
    mean, variance = torch.batch_norm_update_stats(values, scratch[0], scratch[1], 0.0)
    return mean, variance


class _Normalise(torch.autograd.Function):
    """Values scaled to mean 0 and variance 1, times weight plus bias.

    moments: those of the values, to whose gradient they contribute; eps is in the variance.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, moments: Moments
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.moments = moments
        return _normalised(values, weight, bias, moments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        moments: Moments = ctx.moments
        gradient = _in_format_of(values, gradient)
        own_sums = _gradient_sums(gradient, values, weight, moments)
        of_values = None
        if ctx.needs_input_grad[0]:
            sums = moments.peers.gather_tensor(own_sums[None], dim=0).sum(dim=0)
            of_values = _gradient_of_values(gradient, values, weight, moments, sums)
        of_weight = own_sums[1] if ctx.needs_input_grad[1] else None
        of_bias = own_sums[0] if ctx.needs_input_grad[2] else None
        return of_values, of_weight, of_bias, None


def _normalised(
    values: Tensor, weight: Tensor | None, bias: Tensor | None, moments: Moments
) -> Tensor:
    output, _, _ = torch.native_batch_norm(
        values, weight, bias, moments.mean, moments.variance, False, 0.0, 0.0
    )
    return output


def _in_format_of(values: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the strides of the values, for which the kernels below are made."""
    if gradient.stride() == values.stride():
        return gradient
    return torch.empty_like(values).copy_(gradient)


def _gradient_sums(
    gradient: Tensor, values: Tensor, weight: Tensor | None, moments: Moments
) -> Tensor:
    """Per channel, this process's sums of the gradient and of it times the unit values: (2, C)."""
    if gradient.is_cuda:
        scale = moments.variance.rsqrt()
        total, products, _, _ = torch.batch_norm_backward_reduce(
            gradient, values, moments.mean, scale, weight, True, False, False
        )
        return torch.stack([total, products * scale])
    _, products, total = torch.ops.aten.native_batch_norm_backward(
        *(gradient, values, weight, moments.mean, moments.variance, None, None, False, 0.0),
        [False, True, True],
    )
    return torch.stack([total, products])


def _gradient_of_values(
    gradient: Tensor, values: Tensor, weight: Tensor | None, moments: Moments, sums: Tensor
) -> Tensor:
    """weight * scale * (gradient - its mean - unit values * the mean of their products).

    sums: (2, C), those of `_gradient_sums` over all peers.
    Source: Ioffe & Szegedy 2015, section 3, where mean and variance depend on the values.
    """
    scale = moments.variance.rsqrt()
    if gradient.is_cuda:  # all in one kernel, which wants the products with values not yet scaled
        count = moments.num_values.int()[None]
        return torch.batch_norm_backward_elemt(
            gradient, values, moments.mean, scale, weight, sums[0], sums[1] / scale, count
        )
    factor = scale if weight is None else scale * weight
    bias, slope = -factor * sums / moments.num_values
    per_channel = factor.reshape(-1, *[1] * (values.ndim - 2))
    return _normalised(values, slope, bias, moments).addcmul_(gradient, per_channel)
