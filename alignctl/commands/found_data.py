"""What a plan says of the images of a study: found without torch, and with nothing decoded."""

from typing import Any

from alignctl.config import StudyConfig
from alignctl.config.dataset_configs import HubConfig, SvhnConfig, TorchvisionConfig
from alignctl.config.work_division import refuse_unfilled_batch
from alignctl.errors import MissingSplitError

_NUM_NAMED = 10


def found_data(study: StudyConfig) -> dict[str, Any]:
    """How many images each split has, of which classes, and what is to be known of them.

    Raises ConfigError or DataError for what training would refuse before its first image: what is
    missing files, a choice of classes that are not there, too few classes for an objective, fewer
    images than a batch.
    Of data that another library reads, only whether their files are there; of what is to be
    fetched, that it is.
    """
    dataset = study.dataset
    if isinstance(dataset, HubConfig):
        return {"data": _on_the_hub(dataset)}
    if isinstance(dataset, TorchvisionConfig | SvhnConfig):
        return {"data": _of_torchvision(dataset)}
    from alignctl.datasets import summary_of
    from alignctl.datasets.labels import refuse_too_few_classes

    train = summary_of(dataset, "train")
    refuse_too_few_classes(study.objectives, train.class_names)
    refuse_unfilled_batch(study, train.num_images)
    names = ", ".join(train.class_names[:_NUM_NAMED])
    more = ", ..." if len(train.class_names) > _NUM_NAMED else ""
    found = {"train": f"{train.num_images:,} images"}
    notices = list(train.notices)
    try:
        test = summary_of(dataset, "test")
        found["test"] = f"{test.num_images:,} images"
        notices += test.notices
    except MissingSplitError as error:
        found["test"] = f"none; evaluation will be on train only: {error}"
    found["classes"] = f"{len(train.class_names)}: {names}{more}"
    return {"data": found, **({"notices": notices} if notices else {})}


def _on_the_hub(dataset: HubConfig) -> str:
    from alignctl.datasets.hub_library import place_of, refuse_incomplete_folder

    place = place_of(dataset)
    if place.startswith("/"):
        refuse_incomplete_folder(place)
        return f"{place}, which is read when training starts"
    if dataset.download:
        return f"{place}, fetched from the Hugging Face hub where it is not in the cache"
    return f"{place}, looked for in the cache of the Hugging Face library when training starts"


def _of_torchvision(dataset: TorchvisionConfig | SvhnConfig) -> str:
    from alignctl.datasets.torchvision_sets import refuse_missing

    refuse_missing(dataset)
    how = "fetched where it is not there" if dataset.download else "read when training starts"
    return f"{dataset.name} in {dataset.path}, {how}"
