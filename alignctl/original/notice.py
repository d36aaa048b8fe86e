"""What is told of a translated config of the original: what became of its keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignctl.original.yaml_schema import OriginalConfig, kind_of_views

_SUPERVISION = {
    None: "cl, nscl, scl and ce, as its trainer does",
    "DCL": "what it trains as DCL is cl here; nscl, scl and ce beside it, as there",
    "CL": "CL is cl here, with each positive counted once in the denominator and not twice, "
    "a known mistake of its NTXentLoss; nscl, scl and ce beside it, as there",
    "SSL": "SSL is cl here; nscl, scl and ce beside it, as its trainer does",
}
_EVAL = "alignctl eval-alignment"
_IGNORED = {
    "dataset.num_output_classes": "classes are counted",
    "training.log_every": "every epoch is told",
    "training.track_performance": f"{_EVAL}, after training",
    "training.multi_gpu": "--nproc",
    "training.world_size": "--nproc",
    "evaluation.checkpoints_dir": "--run-dir",
    "evaluation.perform_rsa": _EVAL,
    "evaluation.perform_cka": _EVAL,
    "evaluation.perform_knn": f"{_EVAL} --metric knn",
    "evaluation.perform_cdnv": "no command here",
    "evaluation.perform_nccc": "no command here",
    "evaluation.perform_linear": "no command here",
    "evaluation.perform_tsne": "no command here",
    "evaluation.K": "",
    "evaluation.batch_size": "",
    "evaluation": "",
    "linear": "no command here",
}


def mapped_keys(config: OriginalConfig) -> dict[str, str]:
    """What a user should know of keys that have no exact counterpart, by what they concern."""
    dataset: str = config.dataset.name
    if config.dataset.current_name != dataset:
        dataset += f", which is {config.dataset.current_name} today"
    told = {
        "name": config.name,
        "objectives": _SUPERVISION[config.supervision],
        "dataset": f"{dataset}, downloaded where it is missing",
        "views": _views(config),
        "learning rate": _learning_rate(config),
        "optimiser": "LARS on every tensor, biases and norms too, as there; "
        "bfloat16 in place of float16 with a gradient scaler",
        "saved epochs": "those that it saves, and the last",
    }
    if config.model.encoder_type == "vit_b":
        told["encoder"] = f"vit_b as it builds it for {config.dataset.image_size} pixels"
    if config.name == config.experiment_name:
        del told["name"]
    return told


def _views(config: OriginalConfig) -> str:
    text = f"those of {config.augmentations}, at {config.dataset.image_size} pixels"
    if kind_of_views(config.augmentations) != kind_of_views(config.dataset.name):
        text += (
            f"; its code has had versions that go by the dataset, {config.dataset.name}, instead"
        )
    return text


def _learning_rate(config: OriginalConfig) -> str:
    lr, batch_size = config.training.lr, config.training.batch_size
    text = f"{lr:g} * {batch_size} / 256 = {config.training.learning_rate:g}"
    if batch_size % 256:
        whole = lr * (batch_size // 256)
        text += f" ({whole:g} where its code divides in whole numbers)"
    return (
        f"{text} for any number of processes, by which its code multiplies it; "
        "an override of training.batch_size leaves it"
    )


def ignored_keys(values: Mapping[str, Any], config: OriginalConfig) -> tuple[str, ...]:
    """The keys of the file that say nothing here, with the reason where there is one."""
    reasons = dict(_IGNORED)
    if config.dataset.image_size != 32:
        reasons["dataset.path"] = "it comes from the Hugging Face hub, as there"
    if config.model.encoder_type == "vit_b":
        reasons["model.width_multiplier"] = "a vit has none"
    by_reason: dict[str, list[str]] = {}
    unknown: list[str] = []
    for key in _keys(values):
        if key in reasons:
            by_reason.setdefault(reasons[key], []).append(key)
        elif not _is_translated(key, config):
            unknown.append(key)
    told = by_reason | ({"unknown": unknown} if unknown else {})
    return tuple(
        ", ".join(keys) + (f" ({reason})" if reason else "") for reason, keys in told.items()
    )


def _keys(values: Mapping[str, Any]) -> list[str]:
    """The keys as they are written with dots; the section `linear` as a whole."""
    keys: list[str] = []
    for key, value in values.items():
        if key != "linear" and isinstance(value, dict) and value:
            keys += [f"{key}.{inner}" for inner in value]
        else:
            keys.append(str(key))
    return keys


def _is_translated(key: str, config: OriginalConfig) -> bool:
    section, _, inner = key.partition(".")
    fields = type(config).model_fields
    if not inner or section not in fields:
        return key in fields
    return inner in type(getattr(config, section)).model_fields


def notice(source: str, mapped: Mapping[str, str], ignored: Sequence[str]) -> str:
    """A few lines: what the file is, what was mapped, what was ignored."""
    lines = [f"{source}: a config of understanding-ssl-v2, translated"]
    lines += [f"  {what}: {text}" for what, text in mapped.items()]
    if ignored:
        lines.append(f"  ignored: {'; '.join(ignored)}")
    return "\n".join(lines)
