"""Whether runs are comparable: the same weights, batches and views, by what their manifests say."""

from dataclasses import dataclass
from typing import Any

from alignctl.config import StudyConfig
from alignctl.config.execution import science_differences, settings
from alignctl.runs.manifest import Manifest, shortened
from alignctl.verify.check import Check


@dataclass(frozen=True)
class Comparison:
    """What two runs share."""

    checks: tuple[Check, ...]
    differs_in: tuple[str, ...]
    """Settings that may differ and do: `temperature 0.1 / 0.5`."""
    conclusion: str


@dataclass(frozen=True)
class RunRecord:
    """What a run says of itself."""

    study: StudyConfig
    manifest: Manifest
    records_training: bool = True
    """Whether it can say what it was trained with; not where another program trained it."""


def compare_runs(first: RunRecord, other: RunRecord) -> Comparison:
    """The checks that make models of both runs comparable, and what else differs."""
    known = {**settings(other.study), **settings(first.study)}
    differences = science_differences(first.study, other.study).items()
    changed = {key: pair for key, pair in differences if not known[key].is_label}
    held = {key: pair for key, pair in changed.items() if known[key].is_shared}
    equal = _compare_settings(first, other, held)
    weights = _compare_weights(first.manifest, other.manifest)
    batches, in_words = _compare_batches(first, other)
    same = {"ok": "same", "differs": "other"}.get(weights.result, "unknown")
    because = f" ({equal.finding})" if equal.result != "ok" else ""
    return Comparison(
        checks=(equal, weights, batches),
        differs_in=tuple(_both(key, pair) for key, pair in changed.items() if key not in held),
        conclusion=f"{same} initial weights, {in_words}{because}",
    )


def _compare_settings(
    first: RunRecord, other: RunRecord, held: dict[str, tuple[Any, Any]]
) -> Check:
    """What is to be equal by config, and the images that were found."""
    for key in ("num_train_images", "num_classes"):
        ours, theirs = getattr(first.manifest, key), getattr(other.manifest, key)
        if ours != theirs and None not in (ours, theirs):
            held = {**held, key: (ours, theirs)}
    if held:
        return Check("settings", "differs", ", ".join(_both(*item) for item in held.items()))
    if not (first.records_training and other.records_training):
        finding = "equal by the configs, but what an adopted run was trained with was not recorded"
        return Check("settings", "not checked", finding)
    study, manifest = first.study, first.manifest
    return Check(
        "settings",
        "ok",
        f"both: seed {study.seed}, {manifest.num_train_images:,} images of "
        f"{manifest.num_classes} classes in batches of {study.training.batch_size}, "
        f"{getattr(study.encoder, 'model', study.encoder.name)}",
    )


def _compare_weights(first: Manifest, other: Manifest) -> Check:
    ours, theirs = (set(manifest.initial_weights.values()) for manifest in (first, other))
    if not ours or not theirs:
        return Check("initial weights", "not checked", "no snapshot of epoch 0 was adopted")
    if ours == theirs:
        return Check("initial weights", "ok", f"both began from {_listed(ours)}")
    return Check("initial weights", "differs", f"{_listed(ours)} / {_listed(theirs)}")


def _compare_batches(first: RunRecord, other: RunRecord) -> tuple[Check, str]:
    """The check of every epoch that both finished, and the same in words for a conclusion."""
    name = "batches and views"
    ours, theirs = first.manifest.batches, other.manifest.batches
    epochs = sorted(set(ours) & set(theirs))
    if not (first.records_training and other.records_training):
        finding = "an adopted run was made by another program, which kept no digests of them"
        return Check(name, "not checked", finding), "batches and views that cannot be compared"
    if not epochs:
        return Check(
            name, "not checked", "there is no epoch that both finished"
        ), "no epoch in both"
    apart = [epoch for epoch in epochs if ours[epoch] != theirs[epoch]]
    if apart:
        finding = (
            f"epoch {apart[0]} is the first that differs; "
            f"{len(epochs) - len(apart)} of {len(epochs)} epochs agree"
        )
        words = f"other batches and views in {len(apart)} of {len(epochs)} epochs"
        return Check(name, "differs", finding), words
    whole = set(ours) == set(theirs)
    which = f"all {len(epochs)} epochs" + ("" if whole else " that both finished")
    return Check(name, "ok", f"the same in {which}"), f"same batches and views in {which}"


def _listed(digests: set[str]) -> str:
    return ", ".join(sorted(shortened(digest) for digest in digests)) or "none"


def _both(key: str, values: tuple[Any, Any]) -> str:
    """`temperature 0.1 / 0.5`."""
    return f"{key} {_in_words(values[0])} / {_in_words(values[1])}"


def _in_words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_in_words(item) for item in value)}]"
    if isinstance(value, dict):  # an objective: its name, then its options
        return " ".join(
            str(item) if key == "name" else f"{key}={item}" for key, item in value.items()
        )
    return "none" if value is None else str(value)
