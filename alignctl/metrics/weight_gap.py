"""How far two encoders have moved apart in weight space."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class WeightGap:
    """Relative distances of two encoders' weights, layer by layer and together."""

    mean: float
    """Mean of `per_layer`, in [0, 2]."""
    total: float
    """Sum of `per_layer`."""
    per_layer: Mapping[str, float]
    """Name -> |a - b| / (0.5 (|a| + |b|)), in [0, 2]; layers that are zero in both are left out."""
    angle_degrees: float
    """Between the two encoders, each flattened into one vector, in [0, 180]."""


def weight_gap(state_a: Mapping[str, Tensor], state_b: Mapping[str, Tensor]) -> WeightGap:
    """Weight gap of two models of the same architecture, in float64.

    Layers are the tensors named `weight` or `*.weight`; where any name starts with `encoder.`, only
    those that do. Norms are Frobenius norms over the whole tensor.
    Raises ValueError, naming the layer, if layers or shapes differ or a weight is not finite, and
    if no layer, or a whole model, has a weight other than zero.
    Source: arXiv 2510.08852 (mean: its code; total: as printed there).
    """
    layers = _paired_layers(state_a, state_b)
    norms = {name: (_norm(a), _norm(b)) for name, (a, b) in layers.items()}
    per_layer = {
        name: _norm(a - b) / (0.5 * sum(norms[name]))
        for name, (a, b) in layers.items()
        if sum(norms[name]) > 0
    }
    if not per_layer:
        raise ValueError("no layer has a weight other than zero in either model")
    total = math.fsum(per_layer.values())
    return WeightGap(total / len(per_layer), total, per_layer, _angle_degrees(layers, norms))


def _angle_degrees(
    layers: Mapping[str, tuple[Tensor, Tensor]], norms: Mapping[str, tuple[float, float]]
) -> float:
    length_a, length_b = (math.hypot(*(pair[side] for pair in norms.values())) for side in (0, 1))
    for name, length in (("state_a", length_a), ("state_b", length_b)):
        if length == 0:
            raise ValueError(f"{name}: all weights are zero, so there is no angle")
    # Half the angle lies between the sum and the difference of the unit vectors: unlike the
    # arccosine, this keeps all digits of small angles.
    units = [(a / length_a, b / length_b) for a, b in layers.values()]
    difference = math.hypot(*(_norm(a - b) for a, b in units))
    common = math.hypot(*(_norm(a + b) for a, b in units))
    return math.degrees(2 * math.atan2(difference, common))


def _paired_layers(
    state_a: Mapping[str, Tensor], state_b: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    prefix = "encoder." if any(n.startswith("encoder.") for n in (*state_a, *state_b)) else ""
    names_a, names_b = (
        [n for n in state if n.startswith(prefix) and f".{n}".endswith(".weight")]
        for state in (state_a, state_b)
    )
    if not names_a and not names_b:
        raise ValueError(f"no tensor is named {prefix}*.weight")
    layers = {}
    for name in dict.fromkeys([*names_a, *names_b]):
        if name not in state_a or name not in state_b:
            raise ValueError(f"{name}: only in {'state_a' if name in state_a else 'state_b'}")
        a, b = (state[name].detach().double() for state in (state_a, state_b))
        if a.shape != b.shape:
            raise ValueError(f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
        if not (a.isfinite().all() and b.isfinite().all()):
            raise ValueError(f"{name}: not finite")
        layers[name] = (a, b)
    return layers


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))
