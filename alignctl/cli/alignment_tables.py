"""What `eval-alignment` prints: tables of similarities, and the lines below them."""

from collections.abc import Hashable
from itertools import product
from typing import Any

from alignctl.cli.score_notes import interval_notes, sample_of
from alignctl.commands.eval_alignment import EvalPlan, EvalResult
from alignctl.config.metric_configs import heading, short_name

_COLUMNS_AT_MOST = 12
_LAYERS_AT_MOST = 3


def tables_of(result: EvalResult, plan: EvalPlan) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Title, columns and rows of each table to print: one line per epoch, a column per pair.

    All metrics of a split stand in one table where that is not too wide. Of many representations
    only the table of the last epoch is printed.
    """
    layers = layers_of(result)
    tables = []
    for layer, split in product(layers if len(layers) <= _LAYERS_AT_MOST else (), plan.splits):
        rows = [
            row for row in result.rows if row["split"] == split and row["representation"] == layer
        ]
        metrics = list(dict.fromkeys(row["metric"] for row in rows))
        in_one = len(metrics) * len(plan.pairs) <= _COLUMNS_AT_MOST
        for group in [metrics] if in_one else [[metric] for metric in metrics]:
            title = "Similarity" if in_one else short_name(group[0])
            title += f" to {plan.reference}" if plan.reference else ""
            title += f" on {split} ({layer})"
            chosen = [row for row in rows if row["metric"] in group]
            tables.append((title, *_by_epoch(chosen, plan, group, with_metric=in_one)))
    return tables


def layers_of(result: EvalResult) -> list[str]:
    """The representations that have rows, in the order in which they were asked for."""
    return list(dict.fromkeys(row["representation"] for row in result.rows))


def label_of(plan: EvalPlan, reference: str, objective: str) -> str:
    """What a pair is called in a table."""
    return objective if plan.reference else f"{reference}-{objective}"


def _by_epoch(
    rows: list[dict[Hashable, Any]], plan: EvalPlan, metrics: list[str], *, with_metric: bool
) -> tuple[list[str], list[list[Any]]]:
    lines: dict[int, dict[tuple[str, str], float]] = {}
    for row in rows:
        label = label_of(plan, row["reference"], row["objective"])
        lines.setdefault(row["epoch"], {})[row["metric"], label] = row["value"]
    keys = [(metric, label_of(plan, *pair)) for metric in metrics for pair in plan.pairs]
    headings = [f"{heading(metric)} {label}" if with_metric else label for metric, label in keys]
    return ["epoch", *headings], [[epoch, *map(lines[epoch].get, keys)] for epoch in sorted(lines)]


def interval_lines(result: EvalResult) -> list[str]:
    """What to print of the intervals of the last epoch shown."""
    last = max(row["epoch"] for row in result.rows)
    return interval_notes([row for row in result.rows if row["epoch"] == last])


def last_table(result: EvalResult, plan: EvalPlan) -> tuple[str, list[str], list[list[Any]]]:
    """Title, columns and rows to print: intervals and p-values after the last epoch shown."""
    last = max(row["epoch"] for row in result.rows)
    rows = [row for row in result.rows if row["epoch"] == last]
    p_column = ["p"] if plan.options.permutations else []
    layer_column = ["layer"] if len(layers_of(result)) > 1 else []
    models = "pair" if plan.reference is None else "objective"
    columns = ["split", *layer_column, models]
    columns += ["metric", "value", "low", "high", *p_column, "images"]
    lines = [
        [
            row["split"],
            *([row["representation"]] if layer_column else []),
            label_of(plan, row["reference"], row["objective"]),
            short_name(row["metric"]),
            *(row[key] for key in ("value", "ci_low", "ci_high")),
            *([row["p_value"]] if p_column else []),
            row["num_images"],
        ]
        for row in rows
    ]
    samples = [sample_of(row) for row in rows]
    if any(samples):
        columns.append("sample")
        lines = [[*line, sample] for line, sample in zip(lines, samples, strict=True)]
    return f"After epoch {last}, with {100 * result.confidence:g} % intervals", columns, lines


def notes_of(result: EvalResult, plan: EvalPlan) -> list[str]:
    """Lines to print below the tables: why rows have no value, or what they are read with."""
    epochs: dict[tuple[str, ...], list[str]] = {}
    for row in result.rows:
        if row["note"]:
            label = label_of(plan, row["reference"], row["objective"])
            layer = f"{row['representation']}, " if len(layers_of(result)) > 1 else ""
            key = (row["split"], layer + label, short_name(row["metric"]), row["note"])
            epochs.setdefault(key, []).append(str(row["epoch"]))
    return [
        f"{split}, {label}, {metric}, epoch {', '.join(listed)}: {note}"
        for (split, label, metric, note), listed in epochs.items()
    ]
