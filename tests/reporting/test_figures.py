import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.reporting import figures

NEARLY = pytest.approx
NAMES = ("cl", "nscl", "scl", "ce")


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The plotted points, by the label of their line."""
    return {
        line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.get_lines()
    }


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes}


def bands(axes: Axes) -> list[set[tuple[float, float]]]:
    """The corners of every filled area, rounded."""
    return [
        {(float(x), round(float(y), 6)) for x, y in area.get_paths()[0].vertices}
        for area in axes.collections
    ]


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_loss_is_the_mean_over_the_steps_of_an_epoch(tables):
    table = tables.losses(
        {"ce": [[4.0, 2.0], [1.0, 0.5]], "cl": [[9.0, 5.0, 1.0], [2.0, 2.0, 2.0]]}
    )
    found = panels(figures.loss_curves(table.sample(frac=1, random_state=1), ["cl", "ce"]))
    assert list(found) == ["cl", "ce"]
    assert [*lines(found["cl"]).values()] == [[(1, 5.0), (2, 2.0)]]
    assert [*lines(found["ce"]).values()] == [[(1, 3.0), (2, 0.75)]]


def test_losses_of_different_objectives_share_no_axis(tables):
    table = tables.losses({"cl": [[100.0]], "ce": [[1.0]]})
    cl, ce = figures.loss_curves(table, ["cl", "ce"]).axes
    assert ce.get_ylim()[1] < 50 < cl.get_ylim()[1]


def test_a_loss_of_one_epoch_can_be_seen(tables):
    (axes,) = figures.loss_curves(tables.losses({"cl": [[1.0, 2.0]]}), ["cl"]).axes
    (line,) = axes.get_lines()
    assert line.get_marker() not in ("None", "", None)


def test_alignment_has_a_panel_for_each_metric_and_split(alignment):
    found = panels(figures.alignment_curves(alignment.sample(frac=1, random_state=2), NAMES))
    assert set(found) == {
        "CKA to cl, train",
        "CKA to cl, test",
        "RSA to cl, train",
        "RSA to cl, test",
    }
    cka, rsa = found["CKA to cl, test"], found["RSA to cl, train"]
    assert lines(cka)["nscl"] == [(0, 1.0), (5, 0.6), (10, 0.83)]
    assert lines(cka)["scl"] == [(0, 1.0), (5, 0.7), (10, 0.68)]
    assert lines(rsa)["ce"] == [(0, NEARLY(0.9)), (5, NEARLY(0.4)), (10, NEARLY(0.51))]
    assert {axes.get_xlabel() for axes in found.values()} == {"epoch"}


def test_a_split_that_was_not_evaluated_has_no_panel(alignment):
    figure = figures.alignment_curves(alignment[alignment["split"] == "train"], NAMES)
    assert list(panels(figure)) == ["CKA to cl, train", "RSA to cl, train"]


def test_every_line_has_its_name_and_its_own_colour(alignment):
    figure = figures.alignment_curves(alignment, NAMES)
    first = figure.axes[0]
    assert sorted(labels(first)) == ["ce", "nscl", "scl"]
    assert len({line.get_color() for line in first.get_lines()}) == 3
    for axes in figure.axes:  # the legend of one panel holds for all
        assert {line.get_label(): line.get_color() for line in axes.get_lines()} == {
            line.get_label(): line.get_color() for line in first.get_lines()
        }


def test_lines_and_legend_are_in_the_order_of_the_objectives_whatever_is_missing(tables):
    curves = dict.fromkeys(("ce", "scl", "nscl"), (1.0, 0.6, 0.8))
    rows = tables.similarities(curves, curves)
    rows = rows[(rows["objective"] != "nscl") | (rows["epoch"] > 0)]
    gaps = tables.gaps(curves)
    gaps = gaps[(gaps["objective"] != "nscl") | (gaps["epoch"] > 5)]
    sweep = pd.concat(
        [rows[rows["epoch"] == 0].assign(t=0.1), rows[rows["epoch"] == 5].assign(t=1)]
    )
    similar, gap = figures.alignment_curves(rows, NAMES), figures.weight_gap_curves(gaps, NAMES)
    assert labels(similar.axes[0]) == labels(gap.axes[-1]) == ["nscl", "scl", "ce"]
    assert labels(figures.sweep_curves(sweep, "t", NAMES).axes[0]) == ["nscl", "scl", "ce"]
    assert lines(similar.axes[0])["nscl"] == [(5, 0.6), (10, 0.8)]


def test_negative_similarities_are_inside_the_figure(tables):
    rows = tables.similarities({"ce": (0.5,)}, {"ce": (-0.4,)}, epochs=[1])
    for axes in figures.alignment_curves(rows, NAMES).axes:
        low, high = axes.get_ylim()
        assert low <= -0.4
        assert high > 1


def test_similarities_start_at_zero_where_none_is_negative(alignment):
    assert {axes.get_ylim()[0] for axes in figures.alignment_curves(alignment, NAMES).axes} == {0.0}


def test_an_interval_is_a_band_around_its_line_in_its_colour(tables):
    rows = tables.similarities({"nscl": (1.0, 0.6, 0.8)}, {"ce": (0.9, 0.5, 0.7)})
    cka, rsa = figures.alignment_curves(tables.with_intervals(rows, 0.05), NAMES).axes
    low, high = [(0, 0.95), (5, 0.55), (10, 0.75)], [(0, 1.05), (5, 0.65), (10, 0.85)]
    assert bands(cka) == [{*low, *high}]
    assert bands(rsa)[0] >= {(0, 0.85), (5, 0.55), (10, 0.75)}
    for axes in (cka, rsa):
        (line,), (area,) = axes.get_lines(), axes.collections
        assert to_rgb(area.get_facecolor()[0]) == to_rgb(line.get_color())


def test_a_swept_setting_has_bands_too(tables):
    parts = [
        tables.similarities({"nscl": (0.5,)}, {"nscl": (0.5,)}, epochs=[10]).assign(temperature=t)
        for t in (0.1, 1.0)
    ]
    figure = figures.sweep_curves(tables.with_intervals(pd.concat(parts)), "temperature", NAMES)
    corners = {(0.1, 0.45), (0.1, 0.55), (1.0, 0.45), (1.0, 0.55)}
    assert [bands(axes) for axes in figure.axes] == [[corners], [corners]]


def test_without_intervals_there_is_no_band(alignment):
    none = alignment.assign(ci_low=None, ci_high=None)
    for rows in (alignment, none, none.astype({"ci_low": float, "ci_high": float})):
        assert not any(axes.collections for axes in figures.alignment_curves(rows, NAMES).axes)


def test_of_several_metrics_the_usual_cka_and_rsa_are_drawn(alignment, tables):
    more = tables.similarities(
        {"nscl": (-0.9,)}, {"nscl": (-0.8,)}, epochs=[0], names=("procrustes", DEBIASED_CKA)
    )
    figure = figures.alignment_curves(pd.concat([more, alignment], ignore_index=True), NAMES)
    assert set(panels(figure)) == {
        f"{metric} to cl, {split}" for metric in ("CKA", "RSA") for split in ("train", "test")
    }
    assert {axes.get_ylim()[0] for axes in figure.axes} == {0.0}


@pytest.mark.parametrize(
    ("measured", "titles"),
    [
        (ORIGINAL_CKA, ["CKA to cl, test"]),
        (ORIGINAL_RSA, ["RSA to cl, test"]),
        (DEBIASED_CKA, ["debiased CKA to cl, test"]),
    ],
)
def test_a_metric_that_was_not_measured_has_no_panel(tables, measured, titles):
    rows = tables.similarities({"ce": (0.5,)}, {}, epochs=[1], names=(measured, ""))
    assert list(panels(figures.alignment_curves(rows, NAMES))) == titles


def test_without_the_biased_one_debiased_cka_is_drawn(tables):
    rows = tables.similarities(
        {"ce": (0.5,)}, {"ce": (0.25,)}, epochs=[1], names=(DEBIASED_CKA, ORIGINAL_RSA)
    )
    found = panels(figures.alignment_curves(rows, NAMES))
    assert list(found) == ["debiased CKA to cl, test", "RSA to cl, test"]
    assert lines(found["debiased CKA to cl, test"])["ce"] == [(1, 0.5)]


def test_the_weight_gap_is_drawn_from_epoch_1_on_a_logarithmic_axis(tables):
    table = tables.gaps({"nscl": (0, 0.1, 0.2), "ce": (0, 0.3, 0.4)})
    found = panels(figures.weight_gap_curves(table, NAMES))
    mean = found["relative gap, mean over layers, to cl"]
    angle = found["angle (degrees), to cl"]
    assert lines(mean) == {"nscl": [(5, 0.1), (10, 0.2)], "ce": [(5, 0.3), (10, 0.4)]}
    assert lines(angle)["ce"] == [(5, NEARLY(30.0)), (10, NEARLY(40.0))]
    for axes in (mean, angle):
        assert axes.get_xscale() == "log"
        assert axes.get_ylim()[0] == 0
    assert sorted(labels(angle)) == ["ce", "nscl"]


def test_a_weight_gap_of_the_initial_weights_alone_is_an_empty_figure(tables):
    table = tables.gaps({"nscl": (0, 0.1, 0.2)})
    figure = figures.weight_gap_curves(table[table["epoch"] == 0], NAMES)
    assert all(not axes.get_lines() for axes in figure.axes)


def test_a_sweep_is_drawn_against_its_setting_with_every_value_on_the_axis(tables):
    parts = [
        tables.similarities({"nscl": (v,)}, {"nscl": (v / 2,)}, epochs=[10]).assign(temperature=t)
        for t, v in ((1.0, 0.8), (0.1, 0.4), (0.5, 0.6))
    ]
    figure = figures.sweep_curves(pd.concat(parts), "temperature", NAMES)
    cka, rsa = figure.axes
    assert lines(cka)["nscl"] == [(0.1, 0.4), (0.5, 0.6), (1.0, 0.8)]
    assert lines(rsa)["nscl"] == [(0.1, 0.2), (0.5, 0.3), (1.0, 0.4)]
    assert cka.get_xlabel() == "temperature"
    assert cka.get_xscale() == "log"
    assert [label.get_text() for label in cka.get_xticklabels()] == ["0.1", "0.5", "1"]


def test_a_figure_is_saved_as_a_whole_png(tmp_path, alignment):
    path = tmp_path / "figures" / "alignment.png"
    figures.save(figures.alignment_curves(alignment, NAMES), path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content.rstrip().endswith(b"IEND\xaeB`\x82")
    assert [file.name for file in path.parent.iterdir()] == ["alignment.png"]


def test_drawing_leaves_no_figure_open(alignment):
    from matplotlib import pyplot

    figures.alignment_curves(alignment, NAMES)
    assert pyplot.get_fignums() == []
