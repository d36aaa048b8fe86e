"""Images, labels and ids from every kind of source. Imports no torch before a source needs it."""

from collections.abc import Callable
from typing import Any

from alignctl.config.dataset_configs import (
    DatasetConfig,
    HubConfig,
    ImageFolderConfig,
    ParquetConfig,
    StreamableConfig,
)
from alignctl.datasets.digits import digits_source
from alignctl.datasets.hub import hub_source
from alignctl.datasets.image_folder import find_test_folder, image_folder_source
from alignctl.datasets.image_set import ImageSet
from alignctl.datasets.in_memory import ImagesInMemory
from alignctl.datasets.parquet import parquet_source
from alignctl.datasets.source import (
    Source,
    Split,
    SplitSummary,
    refuse_unreadable_images,
    select_encoded,
    select_images,
    summarise,
)
from alignctl.datasets.svhn import svhn_source
from alignctl.datasets.torchvision_sets import torchvision_source
from alignctl.errors import AlignctlError, MissingSplitError

__all__ = [
    "DATASETS",
    "ImageSet",
    "ImagesInMemory",
    "Source",
    "Split",
    "SplitSummary",
    "load_images",
    "missing_test_split",
    "open_images",
    "read_all_images",
    "summary_of",
]

DATASETS: dict[str, Callable[[Any, Split], Source]] = {
    "digits": digits_source,
    "image_folder": image_folder_source,
    "parquet": parquet_source,
    "cifar10": torchvision_source,
    "cifar100": torchvision_source,
    "fashion_mnist": torchvision_source,
    "svhn": svhn_source,
    "huggingface": hub_source,
    "tiny_imagenet": hub_source,
    "mini_imagenet": hub_source,
    "full_imagenet": hub_source,
}


def loading_writes(config: DatasetConfig) -> bool:
    """Whether loading may fetch or convert files, which one process is to do before others."""
    return isinstance(config, HubConfig) or bool(getattr(config, "download", False))


def missing_test_split(config: DatasetConfig) -> str | None:
    """Why there is no test split beside the training images; None where that is not known.

    Looks at names of files and at labels, of local files only.
    """
    try:
        if isinstance(config, ImageFolderConfig):
            find_test_folder(config)
        elif isinstance(config, ParquetConfig):
            parquet_source(config, "test")
    except MissingSplitError as error:
        return str(error)
    except AlignctlError:  # whoever reads the images says it
        return None
    return None


def open_images(config: DatasetConfig, split: Split) -> ImageSet:
    """The images of one split that the config chooses, in memory or not, as it says.

    Raises what `load_images` raises; of images that are not in memory only the first is looked at.
    """
    if isinstance(config, StreamableConfig) and not config.in_memory:
        return select_encoded(DATASETS[config.name](config, split), config, split)
    return load_images(config, split)


def summary_of(config: DatasetConfig, split: Split) -> SplitSummary:
    """What the config chooses of a split; raises what `load_images` raises before it decodes."""
    return summarise(DATASETS[config.name](config, split), config, split)


def read_all_images(config: DatasetConfig, split: Split) -> int:
    """Decode every image of a split and keep none; how many there are.

    DataError lists all that cannot be read.
    """
    return refuse_unreadable_images(DATASETS[config.name](config, split), config, split)


def load_images(config: DatasetConfig, split: Split) -> ImagesInMemory:
    """The images of one split that the config chooses, decoded into memory whatever it says.

    Raises ConfigError for what the config asks in vain, DataError for what cannot be read.
    """
    return select_images(DATASETS[config.name](config, split), config, split)
