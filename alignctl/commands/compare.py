"""Compare two files of features: for people who have features and no run of ours."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from alignctl.config.metric_configs import USUAL_METRICS, AnyMetric, parse_metrics
from alignctl.config.validation import nearest
from alignctl.engine.events import Listener, ignore, notice
from alignctl.engine.placement import DeviceType, parse_device
from alignctl.errors import AlignctlError, ConfigError

if TYPE_CHECKING:  # both import torch
    from alignctl.features.feature_files import FeatureFile
    from alignctl.features.row_order import RowOrder


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
            "metrics": [metric.identifier for metric in self.metrics],
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


def run(plan: ComparePlan, listener: Listener = ignore) -> CompareResult:
    """Read both files, as many times as the metrics need, and score them.

    The listener is told what the files were taken for, unless that is plain.
    """
    from alignctl.engine.placement import plan_processes
    from alignctl.features.feature_files import CheckedFeatures
    from alignctl.metrics.scoring import Question, scores

    a, b = _opened(plan, listener)
    order = _row_order(a, b, listener)
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


def _opened(plan: ComparePlan, listener: Listener) -> "list[FeatureFile]":
    """Both files; ConfigError where neither has what --ids or --features names."""
    from alignctl.features.feature_files import open_features
    from alignctl.features.formats.choice import NO_IDS, Choice, listed

    files = [open_features(text, Choice(plan.ids, plan.features)) for text in (plan.a, plan.b)]
    notes = [(file.name, note) for file in files for note in (file.note, _doubt(file, plan))]
    for name, note in dict.fromkeys(notes):
        if note:
            listener(notice(f"{name}: {note}"))
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
    from alignctl.features.formats.choice import in_doubt
    from alignctl.features.id_columns import columns_like_ids

    numbers = [] if plan.features else columns_like_ids(file)
    if numbers and len(file.columns) == file.num_columns:
        raise in_doubt(file.path, [file.columns[number] for number in numbers])
    if not numbers:
        return ""
    return (
        f"column {numbers[0]} holds another whole number in each of the first rows, as ids do, and "
        "was counted as a feature"
    )


def _row_order(a: "FeatureFile", b: "FeatureFile", listener: Listener) -> "RowOrder":
    """How rows belong together, with a notice unless that is plain."""
    from alignctl.features.row_order import row_order

    order = row_order(a, b)
    if a.num_rows != b.num_rows:
        raise ConfigError(
            f"{a.name} has {a.num_rows} rows and {b.name} {b.num_rows}: want the same images"
        )
    if order.said and (order.second is not None or order.ids is None):
        listener(notice(order.said))
    return order
