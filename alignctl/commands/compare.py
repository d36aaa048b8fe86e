"""Compare two files of features: for people who have features and no run of ours."""

from dataclasses import asdict, dataclass
from typing import Any

from alignctl.config.metrics import USUAL_METRICS, AnyMetric, parse_metrics
from alignctl.engine.placement import DeviceType, parse_device
from alignctl.errors import AlignctlError, ConfigError


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

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        return {
            "a": self.a,
            "b": self.b,
            "metrics": [metric.identifier(0) for metric in self.metrics],
            "confidence": self.confidence,
            "permutations": self.permutations,
            "device": self.device or "auto (a GPU where there is one)",
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
    """metric, value, ci_low, ci_high, p_value, num_images and form, in the metrics' order."""


def plan(
    a: str,
    b: str,
    *,
    metrics: tuple[str, ...],
    confidence: float,
    permutations: int,
    device: str,
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
    )


def check_confidence(confidence: float, permutations: int) -> None:
    """Raise ConfigError unless intervals and p-values can be made with these."""
    if not 0 < confidence < 1:
        raise ConfigError(f"--confidence: {confidence:g} does not lie between 0 and 1")
    if permutations < 0:
        raise ConfigError(f"--permutations: {permutations} is less than 0")


def run(plan: ComparePlan) -> CompareResult:
    """Read both files, as many times as the metrics need, and score them."""
    from alignctl.analysis.feature_files import CheckedFeatures, open_features
    from alignctl.engine.placement import plan_processes
    from alignctl.metrics.comparison import Question, scores

    files = [open_features(text) for text in (plan.a, plan.b)]
    a, b = files
    if a.num_rows != b.num_rows:
        raise ConfigError(
            f"{a.name} has {a.num_rows} rows and {b.name} {b.num_rows}: want the same images"
        )
    import torch

    device = plan_processes(1, limit=1, limit_name="process", device=plan.device).device
    question = Question(plan.metrics, plan.confidence, plan.permutations)
    try:
        found = scores(
            [CheckedFeatures(file, file.name) for file in files],
            [(0, 1)],
            question,
            names=(a.name, b.name),
            device=torch.device(device),
        )
    except ValueError as error:
        hint = "" if plan.chosen else "; choose among the metrics with --metric"
        raise AlignctlError(f"{error}{hint}") from error
    return CompareResult(
        a=a.name,
        b=b.name,
        shape_a=[a.num_rows, a.num_columns],
        shape_b=[b.num_rows, b.num_columns],
        confidence=plan.confidence,
        permutations=plan.permutations,
        scores=[asdict(score) for score in found[0, 1]],
    )


def table_of(result: CompareResult) -> tuple[str, list[str], list[list[Any]]]:
    """Title, columns and rows to print: one line per metric."""
    p_column = ["p"] if result.permutations else []
    columns = ["metric", "value", "low", "high", *p_column, "images", "form"]
    keys = ["value", "ci_low", "ci_high", *(["p_value"] if p_column else []), "num_images", "form"]
    lines = [[score["metric"], *map(score.get, keys)] for score in result.scores]
    return f"Similarity, with {100 * result.confidence:g} % intervals", columns, lines
