"""`alignctl compare`: its options, and what it prints."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignctl.cli.options import Confidence, Device, DryRun, Json, Metrics, Permutations

if TYPE_CHECKING:
    from alignctl.commands.compare import CompareResult

_NAMES_SHOWN = 4

Ids = Annotated[
    str | None,
    typer.Option(
        "--ids",
        metavar="COLUMN",
        help="The column or key that holds ids of rows; none compares rows as they lie.",
        show_default="what looks like ids",
    ),
]
FeatureColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        metavar="PATTERN",
        help="Columns that are features, such as 'f*'; may be repeated.",
        show_default="what looks like features",
    ),
]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A file of features, or FILE:KEY.")],
    b: Annotated[
        str,
        typer.Argument(metavar="B", help="Another, of the same images: with ids, in any order."),
    ],
    metric: Metrics = None,
    ids: Ids = None,
    features: FeatureColumns = None,
    confidence: Confidence = 0.95,
    permutations: Permutations = 0,
    device: Device = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """All similarities of two files of features, such as .npy, .pt, .parquet or .csv.

    Also .npz, .mat, .pth, .safetensors, .feather, .arrow and .tsv. Ids of rows are never counted as
    features; where both files have them, rows are joined by them.
    """
    from alignctl.cli.terminal import print_plan, print_result
    from alignctl.commands import compare as command

    plan = command.plan(
        a,
        b,
        metrics=tuple(metric or ()),
        confidence=confidence,
        permutations=permutations,
        device=device,
        ids=ids,
        features=tuple(features or ()),
    )
    if dry_run:
        return print_plan(plan.summary())
    from alignctl.cli.progress_views import View

    with View() as view:
        result = command.run(plan, listener=view)
    return print_result(result) if as_json else _print(result)


def _print(result: "CompareResult") -> None:
    from alignctl.cli.score_notes import interval_notes
    from alignctl.cli.terminal import print_line, print_table

    print_table(*table_of(result))
    for line in (*interval_notes(result.scores), *notes_of(result), *lines_of(result)):
        print_line(line)


def lines_of(result: "CompareResult") -> list[str]:
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


def table_of(result: "CompareResult") -> tuple[str, list[str], list[list[Any]]]:
    """Title, columns and rows to print: one line per metric."""
    from alignctl.cli.score_notes import sample_of

    p_column = ["p"] if result.permutations else []
    samples = [sample_of(score) for score in result.scores]
    columns = ["metric", "value", "low", "high", *p_column, "images", "form"]
    keys = ["value", "ci_low", "ci_high", *(["p_value"] if p_column else []), "num_images", "form"]
    lines = [[score["metric"], *map(score.get, keys)] for score in result.scores]
    if any(samples):
        columns.append("sample")
        lines = [[*line, sample] for line, sample in zip(lines, samples, strict=True)]
    return f"Similarity, with {100 * result.confidence:g} % intervals", columns, lines


def notes_of(result: "CompareResult") -> list[str]:
    """Lines to print below the table: why metrics have no value, or what they are read with."""
    return [f"{score['metric']}: {score['note']}" for score in result.scores if score["note"]]
