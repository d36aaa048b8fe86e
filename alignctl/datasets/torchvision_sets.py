"""The small-image datasets that torchvision knows how to fetch and read."""

from typing import Any

import numpy as np

from alignctl.config.datasets import TorchvisionConfig
from alignctl.datasets.source import Source, Split
from alignctl.errors import ConfigError, DataError


def torchvision_source(config: TorchvisionConfig, split: Split) -> Source:
    """The images of one split, 32x32 (fashion_mnist: 28x28, grey in all three channels).

    Raises ConfigError if files are missing and `download` is false, DataError if they cannot be
    fetched or read.
    """
    dataset = _open(config, split)
    data = np.asarray(dataset.data)
    if config.name == "svhn":
        data = data.transpose(0, 2, 3, 1)
    elif config.name == "fashion_mnist":
        data = np.broadcast_to(data[..., None], (*data.shape, 3))
    labels = dataset.labels if config.name == "svhn" else dataset.targets
    names = map(str, range(10)) if config.name == "svhn" else dataset.classes
    return Source(
        labels=np.asarray(labels, dtype=np.int64),
        class_names=tuple(names),
        read=lambda ids: data[ids],
    )


def _open(config: TorchvisionConfig, split: Split) -> Any:
    from torchvision import datasets

    dataset = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "svhn": datasets.SVHN,
        "fashion_mnist": datasets.FashionMNIST,
    }[config.name]
    which = {"split": split} if config.name == "svhn" else {"train": split == "train"}
    root = config.path.expanduser()
    try:
        return dataset(root, download=config.download, **which)
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if config.download:
            message = f"dataset.download: {config.name} cannot be fetched: {reason}"
            raise DataError(message) from error
        if isinstance(error, RuntimeError):  # how torchvision says that files are missing
            raise ConfigError(
                f"dataset.path: no complete {config.name} in '{root}'; pass dataset.download=true, "
                "or dataset.path=DIR for where it lies"
            ) from error
        raise DataError(f"{root}: {config.name} cannot be read: {reason}") from error
