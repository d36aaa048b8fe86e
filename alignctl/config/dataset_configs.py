"""Where the images come from, and which of them are used."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from alignctl.config.base import ConfigModel, DataPath, Execution, absolute


def _absolute_if_folder(path: str) -> str:
    """A folder's absolute path; a name on the hub as it is."""
    looks_local = path.startswith((".", "/", "~")) or Path(path).is_dir()
    return str(absolute(Path(path))) if looks_local else path


# made absolute when a study is read, for the working directory may be gone when this is imported
_KeptUnder = Annotated[DataPath, Field(validate_default=True)]
_ELSEWHERE = Execution(proof="training_data")


class DatasetSelection(ConfigModel):
    """What every source of images shares: which classes, and how many images of each."""

    classes: Annotated[int, Field(ge=1)] | tuple[int | str, ...] | None = None
    """The first N classes, or a list of class indices or names; all of them when left out."""
    images_per_class: PositiveInt | None = None
    """Training images of each class, the first ones by id; the test split stays whole."""

    @property
    def place(self) -> Path | str | None:
        """Where the files lie; None where the config does not say."""
        place: Path | str | None = getattr(self, "path", None)
        return place


class DigitsConfig(DatasetSelection):
    """scikit-learn's handwritten digits: 8x8, 1,437 for training and 360 for testing."""

    name: Literal["digits"] = "digits"


class _ImageFiles(DatasetSelection):
    """Images of any size, brought to one size when they are decoded."""

    image_size: PositiveInt | None = None
    """Height and width of what the networks see; needed where sizes differ."""
    resize: PositiveInt | None = None
    """The shorter side before the centre is cropped; `image_size` when left out."""

    @model_validator(mode="after")
    def _resize_is_larger(self) -> "_ImageFiles":
        if self.resize is not None and self.resize < (self.image_size or self.resize + 1):
            raise ValueError(f"resize {self.resize} needs an image_size that is not above it")
        return self


class StreamableConfig(_ImageFiles):
    """Images that need not be in memory."""

    in_memory: bool = True
    """False: worker processes decode every image anew, for training a crop of the whole image."""
    workers: Annotated[NonNegativeInt | None, Execution()] = None
    """Decoding processes of each training process, where images are not in memory; results do
    not depend on it. Left out: with a GPU one per core that the process has, 16 at most, otherwise
    one; 0: it decodes by itself."""

    @model_validator(mode="after")
    def _streams_at_one_size(self) -> "StreamableConfig":
        if not self.in_memory and self.image_size is None:
            raise ValueError("in_memory: false needs an image_size")
        return self


class ImageFolderConfig(StreamableConfig):
    """A folder with train/ and test/ (or val/), each with one folder of images per class.

    Images that lie in train/ or in the folder itself have no labels.
    """

    name: Literal["image_folder"] = "image_folder"
    path: Annotated[DataPath, _ELSEWHERE]
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of each class's training images that is the test split, where there is no other;
    it depends on the names of the files alone."""
    unknown_classes: Literal["refuse", "ignore"] = "refuse"
    """What becomes of a class of the test split that the training split lacks."""


class ParquetConfig(_ImageFiles):
    """A folder of Hugging Face parquet shards named train-*.parquet and test-*.parquet."""

    name: Literal["parquet"] = "parquet"
    path: Annotated[DataPath, _ELSEWHERE]


class HubConfig(StreamableConfig):
    """A dataset of the Hugging Face hub, or a folder that its library reads; needs alignctl[hf].

    tiny_imagenet is zh-plus/tiny-imagenet, mini_imagenet timm/mini-imagenet, full_imagenet
    ILSVRC/imagenet-1k; huggingface is whatever `path` says.
    """

    name: Literal["huggingface", "tiny_imagenet", "mini_imagenet", "full_imagenet"]
    path: Annotated[Annotated[str, AfterValidator(_absolute_if_folder)] | None, _ELSEWHERE] = None
    """The name on the hub, or a folder: a copy of the hub's, images in class folders, parquet
    files, WebDataset shards. Left out: the hub's own, where `name` says which."""
    revision: str | None = None
    """The commit, tag or branch on the hub; the newest when left out."""
    train_split: str = "train"
    test_split: str | None = None
    """Left out: the first of test, validation, valid and val that has labels."""
    image_column: str | None = None
    label_column: str | None = None
    """Left out: the usual names."""
    download: Annotated[bool, Execution()] = False
    """Fetch the files when they are not in the library's cache; never done unasked."""

    @model_validator(mode="after")
    def _names_its_data(self) -> "HubConfig":
        if self.name == "huggingface" and self.path is None:
            raise ValueError("path: needs a name on the hub, or a folder")
        return self


class TorchvisionConfig(DatasetSelection):
    """One of torchvision's small-image datasets, kept under `path`."""

    name: Literal["cifar10", "cifar100", "fashion_mnist"]
    path: Annotated[_KeptUnder, _ELSEWHERE] = Path("data")
    download: Annotated[bool, Execution()] = False
    """Fetch the files when they are not under `path`; never done unasked."""


class SvhnConfig(DatasetSelection):
    """Street View House Numbers, kept under `path`."""

    name: Literal["svhn"]
    path: Annotated[_KeptUnder, _ELSEWHERE] = Path("data")
    download: Annotated[bool, Execution()] = False
    """Fetch the files when they are not under `path`; never done unasked."""
    extra: bool = True
    """Train on the 531,131 easier images of the extra split as well, as the paper does."""


DatasetConfig = Annotated[
    DigitsConfig | ImageFolderConfig | ParquetConfig | HubConfig | TorchvisionConfig | SvhnConfig,
    Field(discriminator="name"),
]
