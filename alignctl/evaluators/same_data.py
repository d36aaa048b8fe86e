"""Whether the images that are evaluated are those that a run was trained on."""

from collections.abc import Mapping
from pathlib import Path

from alignctl.config.dataset_configs import DatasetConfig
from alignctl.config.execution import needing_proof
from alignctl.datasets import ImageSet, Split
from alignctl.errors import DataError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.manifest import package_versions, shortened

_DECODER = "pillow"


def doubts_about(
    run: RunDirectory, images: Mapping[Split, ImageSet], dataset: DatasetConfig
) -> list[str]:
    """Lines to warn with where it cannot be checked that these are the run's images.

    images: by split, of a run of our own. dataset: where they were read from.
    DataError where they are others: by the number of classes; of the train split by the number of
    images and by its digest.
    """
    manifest = Manifest.read(run.manifest_file)
    where = _place_of(dataset)
    for found in images.values():
        if manifest.num_classes not in (None, len(found.class_names)):
            classes = f"{len(found.class_names)} classes here, {manifest.num_classes} then"
            raise DataError(_others(run, where, classes))
    if "train" in images:
        return _doubts_about_training(run, manifest, images["train"], where)
    if not needing_proof(dataset, run.config.dataset):
        return []
    return [
        f"{where}: only the test split is read, of which no digest was kept; that it is the one "
        f"of {run.path} is not checked"
    ]


def _doubts_about_training(
    run: RunDirectory, manifest: Manifest, found: ImageSet, where: str
) -> list[str]:
    if manifest.num_train_images not in (None, len(found.ids)):
        images = f"{len(found.ids):,} training images here, {manifest.num_train_images:,} then"
        raise DataError(_others(run, where, images))
    if manifest.training_data is None:
        return [
            f"{run.path}: is of an earlier version, which kept no digest of the training images; "
            "that these are the same is not checked"
        ]
    here = found.digest
    if here == manifest.training_data:
        return []
    then = manifest.training_data
    digests = f"SHA-256 {shortened(here)} here, {shortened(then)} then"
    before, now = manifest.versions.get(_DECODER), package_versions()[_DECODER]
    if found.digest_covers_pixels and before not in (None, now):
        return [
            f"{where}: the training images differ from those of {run.path} ({digests}), which "
            f"were decoded by {_DECODER} {before} ({now} here); last digits may differ"
        ]
    raise DataError(_others(run, where, digests))


def _place_of(dataset: DatasetConfig) -> str:
    return str(dataset.place or f"dataset {dataset.name}")


def _others(run: RunDirectory, where: str, reason: str) -> str:
    says = "; dataset.path=DIR says where these lie" if Path(where).is_absolute() else ""
    return f"{where}: not the images that {run.path} was trained on ({reason}){says}"
