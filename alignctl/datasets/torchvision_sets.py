"""The small-image datasets that torchvision knows how to fetch and read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alignctl.config.dataset_configs import SvhnConfig, TorchvisionConfig
from alignctl.datasets.source import Source, Split
from alignctl.errors import ConfigError, DataError


def torchvision_source(config: TorchvisionConfig, split: Split) -> Source:
    """The images of one split, 32x32 (fashion_mnist: 28x28, grey in all three channels).

    Raises ConfigError if files are missing and `download` is false, DataError if they cannot be
    fetched or read.
    """
    dataset = _open(config, split)
    data = np.asarray(dataset.data)
    if config.name == "fashion_mnist":
        data = np.broadcast_to(data[..., None], (*data.shape, 3))
    return Source(
        labels=np.asarray(dataset.targets, dtype=np.int64),
        class_names=tuple(dataset.classes),
        read=lambda ids: data[ids],
    )


def _open(config: TorchvisionConfig, split: Split) -> Any:
    from torchvision import datasets

    kind = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "fashion_mnist": datasets.FashionMNIST,
    }[config.name]
    return opened(
        lambda: kind(config.path, train=split == "train", download=config.download),
        config.name,
        config.path,
        download=config.download,
    )


def refuse_missing(config: TorchvisionConfig | SvhnConfig) -> None:
    """ConfigError unless what the data set's files lie in is there; opens none of them."""
    lacking = [name for name in _files_of(config) if not (config.path / name).exists()]
    if lacking and not config.download:
        raise ConfigError(_incomplete(f"{config.name} ({lacking[0]})", config.path))


def _files_of(config: TorchvisionConfig | SvhnConfig) -> list[str]:
    if isinstance(config, SvhnConfig):
        splits = ("train", "test", "extra") if config.extra else ("train", "test")
        return [f"{split}_32x32.mat" for split in splits]
    return {
        "cifar10": ["cifar-10-batches-py"],
        "cifar100": ["cifar-100-python"],
        "fashion_mnist": ["FashionMNIST/raw"],
    }[config.name]


def _incomplete(name: str, root: Path, advice: str = "") -> str:
    return (
        f"dataset.path: no complete {name} in '{root}'; pass dataset.download=true, "
        f"or dataset.path=DIR for where it lies{advice}"
    )


def opened(
    build: Callable[[], Any], name: str, root: Path, *, download: bool, advice: str = ""
) -> Any:
    """One of torchvision's datasets; what it raises instead, as ConfigError or DataError.

    name: what to call it. advice: what else may be done where its files are missing.
    """
    try:
        return build()
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if download:
            message = f"dataset.download: {name} cannot be fetched: {reason}"
            raise DataError(message) from error
        if isinstance(error, RuntimeError):  # how torchvision says that files are missing
            raise ConfigError(_incomplete(name, root, advice)) from error
        raise DataError(f"{root}: {name} cannot be read: {reason}") from error
