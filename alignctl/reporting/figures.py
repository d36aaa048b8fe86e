"""Figures from tables, one function each; drawn without a display."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignctl.config.metric_configs import main_metrics, short_name
from alignctl.runs.atomic import write_atomically

# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = {
    "cl": "#000000",
    "dcl": "#E69F00",
    "nscl": "#0072B2",
    "scl": "#D55E00",
    "ce": "#009E73",
}
_MARKERS = {"cl": "o", "dcl": "v", "nscl": "o", "scl": "s", "ce": "^"}


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically."""
    write_atomically(path, lambda beside: figure.savefig(beside, format="png", dpi=150))


def loss_curves(training: pd.DataFrame, objectives: Sequence[str]) -> Figure:
    """Mean loss of every epoch; one panel per objective, for their losses have no common scale."""
    means = training.groupby(["objective", "epoch"])["loss"].mean()
    figure, panels = _panels(1, len(objectives), width=3.0, height=2.8)
    for axes, name in zip(panels, objectives, strict=True):
        curve = means[name]
        marker = "o" if len(curve) == 1 else None  # one point makes no line
        axes.plot(curve.index, curve.to_numpy(), color=_COLOURS.get(name), marker=marker)
        axes.set_title(name)
        axes.set_xlabel("epoch")
    panels[0].set_ylabel("mean loss")
    return figure


def alignment_curves(alignment: pd.DataFrame, objectives: Sequence[str]) -> Figure:
    """CKA and RSA against the epoch, a column for each split, a line for each objective there.

    Where there are confidence intervals, a band shows them.
    """
    return _similarity_grid(alignment, objectives, x="epoch", label="epoch")


def sweep_curves(last: pd.DataFrame, parameter: str, objectives: Sequence[str]) -> Figure:
    """CKA and RSA after the last epoch against the swept setting, a column for each split."""
    return _similarity_grid(last, objectives, x=parameter, label=parameter, logarithmic=True)


def weight_gap_curves(weight_gap: pd.DataFrame, objectives: Sequence[str]) -> Figure:
    """Mean relative gap and angle between encoders against log(epoch), from epoch 1."""
    rows = weight_gap[weight_gap["epoch"] > 0]
    reference = str(weight_gap["reference"].iloc[0])
    figure, panels = _panels(1, 2, width=4.2, height=3.2)
    titles = {"mean": "relative gap, mean over layers", "angle_degrees": "angle (degrees)"}
    for axes, (quantity, title) in zip(panels, titles.items(), strict=True):
        _lines(axes, rows[rows["quantity"] == quantity], objectives, x="epoch")
        _log_ticks(axes, rows["epoch"])
        axes.set_title(f"{title}, to {reference}")
        axes.set_xlabel("epoch (log scale)")
        axes.set_ylim(bottom=0)
    if len(rows):
        panels[-1].legend(frameon=False)
    return figure


def _similarity_grid(
    rows: pd.DataFrame,
    objectives: Sequence[str],
    *,
    x: str,
    label: str,
    logarithmic: bool = False,
) -> Figure:
    splits = [split for split in ("train", "test") if split in set(rows["split"])]
    reference = str(rows["reference"].iloc[0])
    metrics = main_metrics(rows["metric"])
    rows = rows[rows["metric"].isin(metrics)]
    figure, panels = _panels(len(metrics), len(splits), width=4.2, height=3.0)
    places = [(metric, split) for metric in metrics for split in splits]
    for axes, (metric, split) in zip(panels, places, strict=True):
        here = (rows["metric"] == metric) & (rows["split"] == split)
        _lines(axes, rows[here], objectives, x=x)
        if logarithmic:
            _log_ticks(axes, rows[x])
        axes.set_ylim(min(0.0, float(rows["value"].min())), 1.02)
        axes.set_title(f"{short_name(metric)} to {reference}, {split}")
        axes.set_xlabel(label)
    panels[0].legend(frameon=False, loc="best")
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, objectives: Sequence[str], *, x: str) -> None:
    """A line for each objective that has rows, in the order of the objectives."""
    for name in objectives:
        curve = rows[rows["objective"] == name].sort_values(x)
        if curve.empty:
            continue
        axes.plot(
            curve[x],
            curve["value"],
            label=name,
            color=_COLOURS.get(name),
            marker=_MARKERS.get(name, "."),
            markersize=4,
        )
        if "ci_low" in curve and curve["ci_low"].notna().any():
            low, high = curve["ci_low"].astype(float), curve["ci_high"].astype(float)
            axes.fill_between(curve[x], low, high, color=_COLOURS.get(name), alpha=0.15, lw=0)


def _log_ticks(axes: Axes, values: "pd.Series[Any]") -> None:
    """A logarithmic axis with a tick at each value, thinned out where there are many."""
    places = sorted(set(values))
    places = places[:: max(1, len(places) // 8)]
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()


def _panels(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.flat)
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels
