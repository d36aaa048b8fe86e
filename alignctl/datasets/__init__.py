"""Images, labels and ids from every kind of source. Imports no torch before a source needs it."""

from collections.abc import Callable
from typing import Any

from alignctl.config.datasets import DatasetConfig
from alignctl.datasets.digits import digits_source
from alignctl.datasets.image_folder import image_folder_source
from alignctl.datasets.parquet import parquet_source
from alignctl.datasets.source import ImageSet, Source, Split, select_images
from alignctl.datasets.torchvision_sets import torchvision_source

__all__ = ["DATASETS", "ImageSet", "Source", "Split", "load_images"]

DATASETS: dict[str, Callable[[Any, Split], Source]] = {
    "digits": digits_source,
    "image_folder": image_folder_source,
    "parquet": parquet_source,
    "cifar10": torchvision_source,
    "cifar100": torchvision_source,
    "svhn": torchvision_source,
    "fashion_mnist": torchvision_source,
}


def load_images(config: DatasetConfig, split: Split) -> ImageSet:
    """The images of one split that the config chooses, decoded into memory.

    Raises ConfigError for what the config asks in vain, DataError for what cannot be read.
    """
    return select_images(DATASETS[config.name](config, split), config, split)
