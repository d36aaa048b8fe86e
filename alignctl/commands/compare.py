"""Compare two files of features: for people who have features and no run of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from alignctl.config.metrics import USUAL_METRICS, AnyMetric, parse_metrics, short_name
from alignctl.config.validation import nearest
from alignctl.engine.placement import DeviceType, parse_device
from alignctl.errors import AlignctlError, ConfigError

if TYPE_CHECKING:  # both import torch
    from alignctl.analysis.feature_files import FeatureFile
    from alignctl.analysis.row_order import RowOrder

_NAMES_SHOWN = 4


@dataclass(frozen=True)
class ComparePlan:
    """What will be compared."""

    a: str
    b: str
    metrics: tuple[AnyMetric, ...]
    chosen: bool
    """Whether the metrics were asked for, and are not the usual ones."""
    confidence: float
    permutations: int
    device: DeviceType | None
    ids: str | None = None
    """The column or key that holds the ids of rows, of either file; `none` for none."""
    features: tuple[str, ...] = ()
    """Globs of the columns that are features, of both files."""

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        return {
            "a": self.a,
            "b": self.b,
            "metrics": [metric.identifier(0) for metric in self.metrics],
            "confidence": self.confidence,
            "permutations": self.permutations,
            "device": self.device or "auto (a GPU where there is one)",
            "ids": self.ids or "auto (columns that look like ids)",
            "features": list(self.features) or "auto (columns that look like features)",
        }


@dataclass(frozen=True)
class CompareResult:
    """The scores of two matrices of features."""

    a: str
    b: str
    shape_a: list[int]
    shape_b: list[int]
    confidence: float
    permutations: int
    scores: list[dict[str, Any]]
    """The fields of a Score, in the metrics' order. Of the usual metrics one that could not be
    computed has no value, and a note that says why."""
    features_a: list[str] | None = None
    """The columns of a table that were taken as features; None of a file without columns."""
    features_b: list[str] | None = None
    left_out_a: list[str] = field(default_factory=list)
    """Columns that were taken neither as features nor as ids."""
    left_out_b: list[str] = field(default_factory=list)
    ids: list[str] | None = None
    """The columns or keys of a and b by which rows belong together; None for as they lie."""
    is_joined: bool = False
    """Whether the rows of b were put in the order of a."""
    row_order: str = ""
    """How rows belong together, in a sentence; empty where no file has ids."""


def plan(
    a: str,
    b: str,
    *,
    metrics: tuple[str, ...],
    confidence: float,
    permutations: int,
    device: str,
    ids: str | None = None,
    features: tuple[str, ...] = (),
) -> ComparePlan:
    """The comparison asked for; ConfigError where an option is wrong."""
    check_confidence(confidence, permutations)
    chosen = parse_metrics(metrics or USUAL_METRICS)
    return ComparePlan(
        a=a,
        b=b,
        metrics=chosen,
        chosen=bool(metrics),
        confidence=confidence,
        permutations=permutations,
        device=parse_device(device),
        ids=ids,
        features=features,
    )


def check_confidence(confidence: float, permutations: int) -> None:
    """Raise ConfigError unless intervals and p-values can be made with these."""
    if not 0 < confidence < 1:
        raise ConfigError(f"--confidence: {confidence:g} does not lie between 0 and 1")
    if permutations < 0:
        raise ConfigError(f"--permutations: {permutations} is less than 0")


def run(plan: ComparePlan) -> CompareResult:
    """Read both files, as many times as the metrics need, and score them."""
    from alignctl.analysis.feature_files import CheckedFeatures
    from alignctl.engine.placement import plan_processes
    from alignctl.metrics.comparison import Question, scores

    a, b = _opened(plan)
    order = _row_order(a, b)
    import torch

    device = plan_processes(1, limit=1, limit_name="process", device=plan.device).device
    question = Question(
        plan.metrics, plan.confidence, plan.permutations, each_by_itself=not plan.chosen
    )
    try:
        found = scores(
            [CheckedFeatures(a, a.name), CheckedFeatures(b, b.name, order.second)],
            [(0, 1)],
            question,
            names=(a.name, b.name if order.second is None else f"{b.name}, as ordered by {a.name}"),
            device=torch.device(device),
        )
    except ValueError as error:
        raise AlignctlError(str(error)) from error
    return CompareResult(
        a=a.name,
        b=b.name,
        shape_a=[a.num_rows, a.num_columns],
        shape_b=[b.num_rows, b.num_columns],
        confidence=plan.confidence,
        permutations=plan.permutations,
        scores=[asdict(score) for score in found[0, 1]],
        **_taken(a, b, order),
    )


def _taken(a: "FeatureFile", b: "FeatureFile", order: "RowOrder") -> dict[str, Any]:
    """What of a CompareResult says what the files were taken for."""
    return {
        "features_a": list(a.columns) or None,
        "features_b": list(b.columns) or None,
        "left_out_a": list(a.left_out),
        "left_out_b": list(b.left_out),
        "ids": list(order.ids) if order.ids else None,
        "is_joined": order.second is not None,
        "row_order": order.said,
    }


def _opened(plan: ComparePlan) -> "list[FeatureFile]":
    """Both files; ConfigError where neither has what --ids or --features names."""
    from alignctl.analysis.feature_files import open_features
    from alignctl.analysis.formats.choice import NO_IDS, Choice, listed
    from alignctl.console import print_notice

    files = [open_features(text, Choice(plan.ids, plan.features)) for text in (plan.a, plan.b)]
    notes = [(file.name, note) for file in files for note in (file.note, _doubt(file, plan))]
    for name, note in dict.fromkeys(notes):
        if note:
            print_notice(f"{name}: {note}")
    known = list(dict.fromkeys(name for file in files for name in file.others))
    if plan.ids not in (None, NO_IDS, *known):
        shown = listed(known) or "none"
        raise ConfigError(
            f"--ids: '{plan.ids}' is neither a column nor a key of {files[0].path} or "
            f"{files[1].path}{nearest(str(plan.ids), known)} ({shown})"
        )
    if plan.features and not any(file.columns for file in files):
        raise ConfigError(
            f"--features: neither {files[0].path} nor {files[1].path} has named columns"
        )
    return files


def _doubt(file: "FeatureFile", plan: ComparePlan) -> str:
    """A note of features that look like ids; ConfigError where they have names to choose by."""
    from alignctl.analysis.formats.choice import in_doubt
    from alignctl.analysis.id_columns import columns_like_ids

    numbers = [] if plan.features else columns_like_ids(file)
    if numbers and len(file.columns) == file.num_columns:
        raise in_doubt(file.path, [file.columns[number] for number in numbers])
    if not numbers:
        return ""
    return (
        f"column {numbers[0]} holds another whole number in each of the first rows, as ids do, and "
        "was counted as a feature"
    )


def _row_order(a: "FeatureFile", b: "FeatureFile") -> "RowOrder":
    """How rows belong together, with a notice unless that is plain."""
    from alignctl.analysis.row_order import row_order
    from alignctl.console import print_notice

    order = row_order(a, b)
    if a.num_rows != b.num_rows:
        raise ConfigError(
            f"{a.name} has {a.num_rows} rows and {b.name} {b.num_rows}: want the same images"
        )
    if order.said and (order.second is not None or order.ids is None):
        print_notice(order.said)
    return order


def lines_of(result: CompareResult) -> list[str]:
    """What was compared: features and ids of both files."""
    (num_images, num_a), (_, num_b) = result.shape_a, result.shape_b
    lines = [
        f"{name}: {number:,} features of {num_images:,} images{_named(features, left_out)}"
        for name, number, features, left_out in (
            (result.a, num_a, result.features_a, result.left_out_a),
            (result.b, num_b, result.features_b, result.left_out_b),
        )
    ]
    return [*lines, result.row_order] if result.ids else lines


def _named(features: list[str] | None, left_out: list[str]) -> str:
    if features is None:
        return ""
    return f" ({_abridged(features)})" + (f"; left out: {_abridged(left_out)}" if left_out else "")


def _abridged(names: list[str]) -> str:
    shown = names if len(names) <= _NAMES_SHOWN else [*names[:2], "...", names[-1]]
    return ", ".join(shown)


_OVER = {
    "stratified": "stratified intervals: over other images with as many of each class",
    "simple": "simple intervals: over other images of any class",
    "batches": "intervals of batches: over other batches, of images of any class",
}


def interval_notes(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Lines that say over what the intervals of some scores are, and which have none, and why."""
    metrics: dict[str, list[str]] = {}
    for row in rows:
        if row["interval"] is not None:
            metrics.setdefault(row["interval"], []).append(short_name(row["metric"]))
    notes = [line for kind, line in _OVER.items() if kind in metrics]
    for reason, names in metrics.items():
        if reason not in _OVER:
            listed = ", ".join(dict.fromkeys(names))
            notes.append(f"no interval: {reason.removeprefix('none: ')} ({listed})")
    return notes


def table_of(result: CompareResult) -> tuple[str, list[str], list[list[Any]]]:
    """Title, columns and rows to print: one line per metric."""
    p_column = ["p"] if result.permutations else []
    columns = ["metric", "value", "low", "high", *p_column, "images", "form"]
    keys = ["value", "ci_low", "ci_high", *(["p_value"] if p_column else []), "num_images", "form"]
    lines = [[score["metric"], *map(score.get, keys)] for score in result.scores]
    return f"Similarity, with {100 * result.confidence:g} % intervals", columns, lines


def notes_of(result: CompareResult) -> list[str]:
    """Lines to print below the table: why metrics have no value, or what they are read with."""
    return [f"{score['metric']}: {score['note']}" for score in result.scores if score["note"]]
