"""How far two encoders have moved apart in weight space."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alignctl.metrics.scale import largest_entry, scale_to_one
from alignctl.models.weights import ENCODER, encoder_names

Weights = Tensor | np.ndarray[Any, Any]

_WANTED = "want a dense tensor or array of real numbers"


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


def weight_gap(
    state_a: Mapping[str, Weights] | nn.Module, state_b: Mapping[str, Weights] | nn.Module
) -> WeightGap:
    """Weight gap of two models of the same architecture, in float64.

    States are modules, or mappings from names to tensors or numpy arrays of real numbers, on any
    device. Layers are the tensors named `weight` or `*.weight`; where any name starts with
    `encoder.`, only those that do. Norms are Frobenius norms over the whole tensor.
    Raises ValueError, naming the layer, if layers or shapes differ, or a weight is not finite or
    no dense array of real numbers; and if no layer, or a whole model, has a weight other than zero.
    Source: arXiv 2510.08852 (mean: its code; total: as printed there).
    """
    layers = _paired_layers(_state_of(state_a, "state_a"), _state_of(state_b, "state_b"))
    gaps = {name: _relative_distance(a, b) for name, (a, b) in layers.items()}
    per_layer = {name: gap for name, gap in gaps.items() if gap is not None}
    if not per_layer:
        raise ValueError("no layer has a weight other than zero in either model")
    total = math.fsum(per_layer.values())
    angle = _angle_degrees(*(list(side) for side in zip(*layers.values(), strict=True)))
    return WeightGap(total / len(per_layer), total, per_layer, angle)


def _relative_distance(a: Tensor, b: Tensor) -> float | None:
    """None if both are zero."""
    scale = scale_to_one(torch.maximum(largest_entry(a), largest_entry(b)))
    a, b = a * scale, b * scale  # or squares of large and of small weights leave float64
    lengths = _norm(a) + _norm(b)
    return _norm(a - b) / (0.5 * lengths) if lengths > 0 else None


def _angle_degrees(layers_a: Sequence[Tensor], layers_b: Sequence[Tensor]) -> float:
    # Half the angle lies between the sum and the difference of the unit vectors: unlike the
    # arccosine, this keeps all digits of small angles.
    units_a, units_b = _unit(layers_a, "state_a"), _unit(layers_b, "state_b")
    pairs = list(zip(units_a, units_b, strict=True))
    difference = math.hypot(*(_norm(a - b) for a, b in pairs))
    common = math.hypot(*(_norm(a + b) for a, b in pairs))
    return math.degrees(2 * math.atan2(difference, common))


def _unit(layers: Sequence[Tensor], name: str) -> list[Tensor]:
    """The layers of one model, divided by the length of all of them together."""
    scale = scale_to_one(torch.stack([largest_entry(layer) for layer in layers]).amax())
    scaled = [layer * scale for layer in layers]
    length = math.hypot(*(_norm(layer) for layer in scaled))
    if length == 0:
        raise ValueError(f"{name}: all weights are zero, so there is no angle")
    return [layer / length for layer in scaled]


def _state_of(state: Mapping[str, Weights] | nn.Module, name: str) -> Mapping[str, Weights]:
    if isinstance(state, nn.Module):
        return state.state_dict()
    if not isinstance(state, Mapping):
        raise ValueError(f"{name}: want a module or a mapping of weights, not {_kind(state)}")
    return state


def _paired_layers(
    state_a: Mapping[str, Weights], state_b: Mapping[str, Weights]
) -> dict[str, tuple[Tensor, Tensor]]:
    names_a, names_b = ([n for n in state if isinstance(n, str)] for state in (state_a, state_b))
    of_encoder = encoder_names([*names_a, *names_b])
    names = [name for name in of_encoder if f".{name}".endswith(".weight")]
    if not names:
        prefix = ENCODER if any(name.startswith(ENCODER) for name in of_encoder) else ""
        raise ValueError(f"no tensor is named {prefix}*.weight")
    layers = {}
    for name in names:
        if name not in state_a or name not in state_b:
            raise ValueError(f"{name}: only in {'state_a' if name in state_a else 'state_b'}")
        a = _as_float64(state_a[name], f"state_a, {name}")
        b = _as_float64(state_b[name], f"state_b, {name}")
        if a.shape != b.shape:
            raise ValueError(f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
        layers[name] = (a, b)
    return layers


def _as_float64(weights: Weights, where: str) -> Tensor:
    """Weights of any real dtype, byte order and device, in memory."""
    if isinstance(weights, Tensor):
        _refuse_tensor(weights, where)
        tensor = weights.detach().to("cpu", torch.float64)
    elif type(weights) in (np.ndarray, np.memmap) and weights.dtype.kind in "biuf":
        with np.errstate(over="ignore"):  # what float64 cannot hold is not finite
            tensor = torch.from_numpy(np.array(weights, dtype=np.float64))
    else:
        raise ValueError(f"{where}: {_WANTED}, not {_kind(weights)}")
    if not tensor.isfinite().all():
        raise ValueError(f"{where}: not finite")
    return tensor


def _refuse_tensor(weights: Tensor, where: str) -> None:
    cases = {
        "one without values (a lazy parameter)": nn.parameter.is_lazy(weights),
        "one on the meta device, which has no values": weights.is_meta,
        "a nested one": weights.is_nested,
        f"one of layout {weights.layout}": weights.layout != torch.strided,
        f"one of {weights.dtype}": weights.is_quantized or weights.is_complex(),
    }
    for case, is_so in cases.items():
        if is_so:
            raise ValueError(f"{where}: {_WANTED}, not {case}")


def _kind(value: object) -> str:
    dtype = f" of dtype {value.dtype}" if isinstance(value, np.ndarray) else ""
    return f"{type(value).__name__}{dtype}"


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))
