"""Where the images come from, and which of them are used."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from alignctl.config.base import ConfigModel

# Absolute from the start, so that a run's config works from any folder.
DataPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class DatasetSelection(ConfigModel):
    """What every source of images shares: which classes, and how many images of each."""

    classes: Annotated[int, Field(ge=1)] | tuple[int | str, ...] | None = None
    """The first N classes, or a list of class indices or names; all of them when left out."""
    images_per_class: PositiveInt | None = None
    """Training images of each class, the first ones by id; the test split stays whole."""


class DigitsConfig(DatasetSelection):
    """scikit-learn's handwritten digits: 8x8, 1,437 for training and 360 for testing."""

    name: Literal["digits"] = "digits"


class ImageFolderConfig(DatasetSelection):
    """A folder with train/ and test/ (or val/), each with one folder of images per class."""

    name: Literal["image_folder"] = "image_folder"
    path: DataPath
    image_size: PositiveInt | None = None
    """Resize the shorter side to this and crop the centre; needed where sizes differ."""


class ParquetConfig(DatasetSelection):
    """A folder of Hugging Face parquet shards named train-*.parquet and test-*.parquet."""

    name: Literal["parquet"] = "parquet"
    path: DataPath
    image_size: PositiveInt | None = None
    """Resize the shorter side to this and crop the centre; needed where sizes differ."""


class TorchvisionConfig(DatasetSelection):
    """One of torchvision's small-image datasets, kept under `path`."""

    name: Literal["cifar10", "cifar100", "svhn", "fashion_mnist"]
    path: DataPath = Path("data").absolute()
    download: bool = False
    """Fetch the files when they are not under `path`; never done unasked."""


DatasetConfig = Annotated[
    DigitsConfig | ImageFolderConfig | ParquetConfig | TorchvisionConfig,
    Field(discriminator="name"),
]
