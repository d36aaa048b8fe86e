"""Why weights do not fit a config, and which settings their shapes ask for."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from alignctl.config import StudyConfig
from alignctl.config.encoder_configs import ResNetConfig
from alignctl.models.weights import ENCODER, PROJECTOR

_BASE_WIDTH = 64
_STEMS = {3: "small_image", 7: "imagenet"}
# By whether blocks are bottlenecks, and their numbers.
_RESNETS = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
}


def misfit(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], study: StudyConfig
) -> str | None:
    """The first tensor that does not fit, and what to change where shapes tell; None if all do.

    expected: the state of the study's network, on any device.
    """
    fault = _first_fault(expected, weights)
    if fault is None:
        return None
    settings = settings_in(weights)
    if study.encoder.name == "timm" and settings.get("encoder.name") == "vit":
        # timm's transformers have the same names: shapes do not tell one from another
        settings = {key: value for key, value in settings.items() if key.startswith("projector.")}
    changes = [f"{key}={value}" for key, value in settings.items() if _differs(study, key, value)]
    return f"{fault}; its shapes ask for {' '.join(changes)}" if changes else fault


def _first_fault(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    for name, tensor in expected.items():
        if name not in weights:
            return f"{name} is missing"
        theirs, ours = tuple(weights[name].shape), tuple(tensor.shape)
        if theirs != ours:
            return f"size mismatch: {name} is {theirs} there and {ours} by the config"
    return next((f"{name} is not in the network" for name in weights if name not in expected), None)


def settings_in(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings that the shapes of weights give away, by dotted key; empty for other models."""
    found = _vit(weights) if f"{ENCODER}patch_embed.proj.weight" in weights else _resnet(weights)
    for key, layer in (("hidden_dim", 0), ("output_dim", 3)):
        if (name := f"{PROJECTOR}{layer}.weight") in weights:
            found[f"projector.{key}"] = len(weights[name])
    return found


def _resnet(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = [_count(weights, f"{ENCODER}layer{stage}.") for stage in (1, 2, 3, 4)]
    name = _RESNETS.get((f"{ENCODER}layer1.0.conv3.weight" in weights, tuple(stages)))  # type: ignore[arg-type]
    stem = weights.get(f"{ENCODER}conv1.weight")
    if name is None or stem is None or stem.ndim != 4:
        return {}
    found: dict[str, Any] = {"encoder.name": name, "encoder.width": len(stem) / _BASE_WIDTH}
    if stem.shape[-1] in _STEMS:
        found["encoder.stem"] = _STEMS[stem.shape[-1]]
    return found


def _vit(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """All but the number of heads, which no shape depends on."""
    patches = weights[f"{ENCODER}patch_embed.proj.weight"]
    positions = weights.get(f"{ENCODER}pos_embed")
    blocks = f"{ENCODER}blocks."
    first = weights.get(f"{blocks}0.mlp.fc1.weight")
    if positions is None or first is None:
        return {"encoder.name": "vit"}
    side = math.isqrt(positions.shape[1] - 1)
    return {
        "encoder.name": "vit",
        "encoder.image_size": side * patches.shape[-1],
        "encoder.patch_size": patches.shape[-1],
        "encoder.num_layers": _count(weights, blocks),
        "encoder.hidden_dim": len(patches),
        "encoder.mlp_dim": len(first),
    }


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow a prefix."""
    return len({name[len(prefix):].partition(".")[0] for name in weights
                if name.startswith(prefix)})  # fmt: skip


def _differs(study: StudyConfig, key: str, value: Any) -> bool:
    section, _, field = key.partition(".")
    settings = getattr(study, section)
    if field == "width" and isinstance(settings, ResNetConfig):
        # many widths have the same channels
        return max(1, round(_BASE_WIDTH * settings.width)) != int(_BASE_WIDTH * value)
    return bool(getattr(settings, field, None) != value)
