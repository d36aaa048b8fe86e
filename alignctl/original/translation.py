"""Config files of the paper's own code, understanding-ssl-v2, translated to studies.

Luthra et al. 2025 (arXiv 2510.08852), https://github.com/DLFundamentals/understanding-ssl-v2:
what its files say, and what they leave to its code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from alignctl.config.validation import config_error
from alignctl.errors import ConfigError
from alignctl.original.notice import ignored_keys, mapped_keys, notice
from alignctl.original.yaml_schema import (
    DatasetSection,
    ModelSection,
    OriginalConfig,
    kind_of_views,
)


@dataclass(frozen=True)
class Translation:
    """A study as plain values, and what became of each key of the file."""

    values: dict[str, Any]
    """For `apply_overrides` and `validate_study`."""
    mapped: dict[str, str]
    """What is not one key for one key, by what it concerns."""
    ignored: tuple[str, ...]
    """Keys that say nothing here, with the reason, and those that nobody knows."""
    source: str

    @property
    def notice(self) -> str:
        """A few lines for whoever gave the file."""
        return notice(self.source, self.mapped, self.ignored)


_OWN_KEYS = ("encoder", "objectives")
_ITS_KEYS = ("experiment_name", "method_type", "supervision", "model", "loss")
_ITS_TRAINING_KEYS = ("num_epochs", "lr", "augmentations_type")


def recognises(values: Any) -> bool:
    """Whether these values of a YAML file have keys that only the original's configs have."""
    if not isinstance(values, dict) or any(key in values for key in _OWN_KEYS):
        return False
    training = values.get("training")
    found = [key for key in _ITS_KEYS if key in values]
    if isinstance(training, dict):
        found += [key for key in _ITS_TRAINING_KEYS if key in training]
    return len(found) > 1  # one alone may be a slip in a study of ours


def translate(values: dict[str, Any], source: str) -> Translation:
    """The study that a config of the original describes.

    Raises ConfigError that names `source` and the keys as they stand in the file.
    """
    try:
        config = OriginalConfig.model_validate(values)
    except ValidationError as error:
        raise config_error(error, OriginalConfig, source) from error
    return Translation(_study(config), mapped_keys(config), ignored_keys(values, config), source)


def _study(config: OriginalConfig) -> dict[str, Any]:
    training, model = config.training, config.model
    augmentation = _augmentation(config.augmentations)
    return {
        "name": config.name,
        "dataset": _dataset(config.dataset),
        **({"augmentation": augmentation} if augmentation else {}),
        "encoder": _encoder(model, config.dataset),
        "projector": {"hidden_dim": model.hidden_dim, "output_dim": model.projection_dim},
        "objectives": ["cl", "nscl", "scl", "ce"],
        "temperature": config.loss.temperature,
        "training": {
            "epochs": training.num_epochs,
            "batch_size": training.batch_size,
            "batches": "stratified",
            "optimizer": {
                "name": "lars",
                "learning_rate": training.learning_rate,
                "momentum": 0.9,
                "weight_decay": 1e-6,
                "trust_coefficient": 1e-3,
                "exclude_bias_and_norm": False,
            },
            "schedule": {"warmup_epochs": 10, "unit": "epoch"},
            "clip_norm": 1.0,
            "precision": "bfloat16",
        },
        "checkpoint_epochs": training.saved_epochs,
    }


def _dataset(section: DatasetSection) -> dict[str, Any]:
    name = section.current_name
    fetched = {"name": name, "download": True}  # it downloads unasked
    if section.image_size == 32:
        path = {} if section.path is None else {"path": section.path}
        return {**fetched, **path, **({"extra": True} if name == "svhn" else {})}
    if section.image_size == 64:
        return {**fetched, "image_size": 64}
    return {**fetched, "in_memory": False, "image_size": section.image_size, "resize": 256}


def _encoder(section: ModelSection, dataset: DatasetSection) -> dict[str, Any]:
    if section.encoder_type != "vit_b":
        stem = "small_image" if dataset.image_size == 32 else "imagenet"
        return {"name": section.encoder_type, "width": section.width_multiplier, "stem": stem}
    hidden_dim, mlp_dim = (768, 3072) if dataset.image_size == 224 else (384, 1536)
    return {
        "name": "vit",
        "image_size": dataset.image_size,
        "patch_size": {32: 4, 64: 8, 224: 16}[dataset.image_size],
        "num_layers": 12,
        "num_heads": 12,
        "hidden_dim": hidden_dim,
        "mlp_dim": mlp_dim,
    }


def _augmentation(kind: str) -> dict[str, Any]:
    """What differs from our defaults, which are CIFAR's."""
    recipe = kind_of_views(kind)
    if recipe == "cifar":
        return {}
    normalisation = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    if recipe == "tiny_imagenet":
        return normalisation
    return {
        "jitter_probability": 1.0,
        "brightness": 0.8,
        "contrast": 0.8,
        "saturation": 0.8,
        "hue": 0.2,
        "blur_probability": 0.1,
        **normalisation,
    }


_OURS = {
    "experiment_name": "name",
    "supervision": "objectives",
    "training.num_epochs": "training.epochs",
    "training.lr": "training.optimizer.learning_rate",
    "training.save_every": "checkpoint_epochs",
    "training.augmentations_type": "augmentation",
    "model.encoder_type": "encoder.name",
    "model.pretrained": "encoder.weights",
    "model.width_multiplier": "encoder.width",
    "model.hidden_dim": "projector.hidden_dim",
    "model.projection_dim": "projector.output_dim",
    "loss.temperature": "temperature",
}


def refuse_its_keys(overrides: Sequence[str], source: str) -> None:
    """ConfigError where an override of a translated file uses a key of the file, not ours."""
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key in _OURS:
            raise ConfigError(
                f"{source}: {key}: unknown key; changes of this file are written "
                f"in the names of alignctl, where it is '{_OURS[key]}'"
            )
