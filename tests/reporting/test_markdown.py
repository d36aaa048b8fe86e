import re
from pathlib import Path

import pandas as pd
import pytest

from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_RSA
from alignctl.reporting import figures
from alignctl.reporting.markdown import main_rows, markdown_table, write_report
from alignctl.reporting.table_sources import read_source
from alignctl.runs.sweep_folder import SweepDescription, SweepDirectory
from alignctl.runs.table_files import read_parquet, write_parquet


@pytest.fixture(autouse=True)
def plain_figures(monkeypatch):
    """What is drawn is tested elsewhere: here a figure is a small file."""

    def save(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(axes.get_title() for axes in figure.axes))

    monkeypatch.setattr(figures, "save", save)


def tables_in(text: str) -> list[list[list[str]]]:
    """The cells of every markdown table, without the line of dashes."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def figures_in(text: str) -> list[str]:
    return re.findall(r"!\[.*?\]\((.*?)\)", text)


def test_a_report_opens_with_the_answer_and_where_it_was_otherwise(tmp_path, make_source):
    written = write_report([make_source(tmp_path / "tiny")], tmp_path / "report")
    paragraphs = written.report.read_text(encoding="utf-8").split("\n\n")
    assert paragraphs[0] == "# tiny"
    assert paragraphs[1] == written.answers[0]
    assert paragraphs[1].startswith("After epoch 10, on 1,360 test images, by CKA NSCL (0.830)")
    assert paragraphs[2] == "CKA on test: SCL, not NSCL, was closest at epoch 5."


def test_a_report_has_its_sections_in_order(tmp_path, make_source):
    text = write_report([make_source(tmp_path / "tiny")], tmp_path).report.read_text()
    assert headings(text) == [
        "# tiny",
        "## Similarity of representations",
        "## Weight gap",
        "## Training",
        "## What was run",
    ]


def test_every_figure_of_a_report_is_there_and_is_shown(tmp_path, make_source):
    folder = tmp_path / "report"
    written = write_report([make_source(tmp_path / "tiny")], folder)
    shown = figures_in(written.report.read_text())
    assert shown == ["figures/alignment.png", "figures/weight_gap.png", "figures/losses.png"]
    assert [folder / name for name in shown] == list(written.figures)
    assert all(path.is_file() for path in written.figures)


def test_the_tables_hold_the_numbers_of_the_runs_tables(tmp_path, make_source):
    text = write_report([make_source(tmp_path / "tiny")], tmp_path).report.read_text()
    train, test, gap, _ = tables_in(text)
    header = ["epoch", "CKA nscl", "CKA scl", "CKA ce", "RSA nscl", "RSA scl", "RSA ce"]
    assert test[0] == header
    assert test[-1] == ["10", "0.8300", "0.6800", "0.6700", "0.8000", "0.6500", "0.6100"]
    assert train[0] == header
    assert train[2] == ["5", "0.5000", "0.6000", "0.4000", "0.8000", "0.6000", "0.4000"]
    assert gap[0][:3] == ["epoch", "mean nscl", "mean ce"]
    assert gap[-1] == ["10", "0.2000", "0.4000", "2.0000", "4.0000", "20.0000", "40.0000"]
    assert "Similarity of h to cl, 1,437 train images:" in text
    assert "Similarity of h to cl, 1,360 test images:" in text


def test_other_metrics_are_columns_of_the_tables_and_not_of_the_answer(
    tmp_path, make_source, tables
):
    source = make_source(tmp_path / "tiny")
    path = source.path / "alignment" / "alignment.parquet"
    knn = "knn k=10 distance=cosine"
    more = tables.similarities(
        {"nscl": (0.3, 0.2, 0.1)}, {"nscl": (0.6, 0.5, 0.4)}, names=(DEBIASED_CKA, knn)
    )
    write_parquet(path, pd.concat([read_parquet(path), more], ignore_index=True))
    written = write_report([read_source(source.path)], tmp_path)
    train, test, *_ = tables_in(written.report.read_text())
    assert test[0][-3:] == ["RSA ce", "debiased CKA nscl", f"{knn} nscl"]
    assert test[-1][-3:] == ["0.6100", "0.1000", "0.4000"]
    assert train[0][-1] == "RSA ce"
    assert "debiased" not in written.answers[0]
    assert "by CKA NSCL (0.830)" in written.answers[0]


def test_a_metric_that_was_measured_at_some_epochs_leaves_gaps(tmp_path, make_source, tables):
    source = make_source(tmp_path / "tiny")
    path = source.path / "alignment" / "alignment.parquet"
    more = tables.similarities({"ce": (0.25,)}, {}, epochs=[10], names=(DEBIASED_CKA, ""))
    write_parquet(path, pd.concat([read_parquet(path), more], ignore_index=True))
    text = write_report([read_source(source.path)], tmp_path).report.read_text()
    assert tables_in(text)[1][-1][-1] == "0.2500"
    assert "nan" not in text


def test_columns_come_in_the_studys_order_whatever_is_missing(tmp_path, make_source):
    source = make_source(tmp_path / "tiny")
    for folder in ("alignment", "weight_gap"):
        path = source.path / folder / f"{folder}.parquet"
        rows = read_parquet(path)
        gap = (rows["objective"] == "nscl") & (rows["epoch"] == 0)
        write_parquet(path, rows[~gap].sort_values(["epoch", "objective"]))
    written = write_report([read_source(source.path)], tmp_path)
    train, test, gaps, _ = tables_in(written.report.read_text())
    header = ["epoch", "CKA nscl", "CKA scl", "CKA ce", "RSA nscl", "RSA scl", "RSA ce"]
    assert train[0] == test[0] == header
    assert test[1] == ["0", "-", "1.0000", "1.0000", "-", "1.0000", "1.0000"]
    assert gaps[0] == [
        "epoch", "mean nscl", "mean ce", "total nscl", "total ce", "angle° nscl", "angle° ce",
    ]  # fmt: skip
    assert gaps[1] == ["0", "-", "0.0000", "-", "0.0000", "-", "0.0000"]


def test_a_run_with_debiased_cka_only_has_a_report_about_it(tmp_path, make_source, tables):
    source = make_source(tmp_path / "tiny")
    path = source.path / "alignment" / "alignment.parquet"
    names = (DEBIASED_CKA, ORIGINAL_RSA)
    write_parquet(path, tables.similarities({"nscl": (1, 0.5, 0.25)}, {}, names=names))
    written = write_report([read_source(source.path)], tmp_path)
    assert "by debiased CKA NSCL (0.250) is closest to CL" in written.answers[0]
    assert tables_in(written.report.read_text())[0] == [
        ["epoch", "debiased CKA nscl"], ["0", "1.0000"], ["5", "0.5000"], ["10", "0.2500"],
    ]  # fmt: skip
    assert written.figures[0].read_text() == "debiased CKA to cl, test"


@pytest.mark.parametrize("metric", ["procrustes", "cka"], ids=["other", "table of an old version"])
def test_a_run_without_cka_and_rsa_can_be_reported(tmp_path, make_source, tables, metric):
    source = make_source(tmp_path / "tiny")
    path = source.path / "alignment" / "alignment.parquet"
    write_parquet(path, tables.similarities({"nscl": (1, 0.5, 0.25)}, {}, names=(metric, "rsa")))
    written = write_report([read_source(source.path)], tmp_path)
    assert written.report.is_file()


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (
            {"name": "vit", "image_size": 8},
            "vit, image_size 8, patch_size 4, num_layers 12, num_heads 12, hidden_dim 384, "
            "mlp_dim 1536",
        ),
        (
            {"name": "timm", "model": "test_vit", "weights": "/vit.pth"},
            "timm, weights /vit.pth, model test_vit",
        ),
    ],
)
def test_every_encoder_is_told_with_its_settings(tmp_path, make_source, make_study, encoder, words):
    source = make_source(tmp_path / "tiny", study=make_study(encoder=encoder))
    text = write_report([source], tmp_path).report.read_text()
    assert {row[0]: row[1] for row in tables_in(text)[-1]}["encoder"] == words


def test_what_was_run_is_told_from_study_and_manifest(tmp_path, make_source):
    source = make_source(tmp_path / "tiny", git_commit="abc123")
    text = write_report([source], tmp_path).report.read_text()
    rows = {row[0]: row[1] for row in tables_in(text)[-1]}
    assert rows["objectives"] == "cl, nscl, scl, ce"
    assert rows["dataset"] == "digits"
    assert rows["encoder"] == "resnet18, width 0.25, stem small_image"
    assert rows["temperature"] == "0.5"
    assert rows["training"] == "10 epochs, batch 64, float32"
    assert rows["optimiser"] == "sgd, learning rate 0.1"
    assert rows["versions"] == "python 3.12.1, torch 2.9.0"
    assert rows["git commit"] == "abc123"
    assert rows["training time"] == "12 s in 2 processes with 1 thread each"
    assert "All 4 models started from the same weights (SHA-256 abababababababab...)" in text
    assert f"`alignctl pretrain {source.path / 'config.yaml'}`" in text


def test_a_run_outside_git_says_so(tmp_path, make_source):
    text = write_report([make_source(tmp_path / "tiny")], tmp_path).report.read_text()
    assert ["git commit", "not in a git checkout"] in tables_in(text)[-1]


def test_a_run_without_tables_says_what_to_do(tmp_path, make_run):
    make_run(tmp_path / "run")
    written = write_report([read_source(tmp_path / "run")], tmp_path / "report")
    text = written.report.read_text()
    assert written.figures == ()
    assert figures_in(text) == []
    assert text.count("Not evaluated yet: run `alignctl eval-alignment`.") == 2
    assert "Not measured yet: run `alignctl weight-gap`." in text
    assert written.answers == ("Not evaluated yet: run `alignctl eval-alignment`.",)


def test_an_unfinished_run_says_how_far_it_came(tmp_path, make_source):
    source = make_source(tmp_path / "tiny", status="interrupted", finished_epochs=3)
    text = write_report([source], tmp_path).report.read_text()
    assert "**This run is interrupted: 3 of 10 epochs are recorded.**" in text
    finished = write_report([make_source(tmp_path / "other")], tmp_path).report.read_text()
    assert "epochs are recorded" not in finished


def test_a_report_is_about_h_against_cl(alignment, tables):
    other = {"nscl": (0.0, 0.0, 0.0)}
    more = [
        tables.similarities(other, other, reference="ce"),
        tables.similarities(other, other, representation="g"),
    ]
    mixed = pd.concat([more[0], alignment, more[1]], ignore_index=True)
    found = main_rows(mixed)
    pd.testing.assert_frame_equal(found.reset_index(drop=True), alignment)


def test_without_h_and_cl_a_report_is_about_one_comparison(tables):
    values = {"scl": (0.5,)}
    parts = [
        tables.similarities(values, values, epochs=[1], reference=reference, representation="g")
        for reference in ("nscl", "ce")
    ]
    found = main_rows(pd.concat(parts))
    assert set(found["reference"]) == {"ce"}
    assert main_rows(pd.DataFrame()).empty


def test_weight_gaps_to_other_references_are_not_mixed_in(tmp_path, make_source, tables):
    source = make_source(tmp_path / "tiny")
    path = source.path / "weight_gap" / "weight_gap.parquet"
    other = tables.gaps({"nscl": (0, 9.0, 9.0), "cl": (0, 9.0, 9.0)}, reference="scl")
    write_parquet(path, pd.concat([other, read_parquet(path)], ignore_index=True))
    written = write_report([read_source(source.path)], tmp_path)
    gap = tables_in(written.report.read_text())[2]
    assert gap[0][:3] == ["epoch", "mean nscl", "mean ce"]
    assert gap[-1][:3] == ["10", "0.2000", "0.4000"]
    (drawn,) = [path for path in written.figures if "weight_gap" in path.name]
    assert "to cl" in drawn.read_text()


def test_runs_in_one_report_keep_their_own_figures(tmp_path, make_source):
    sources = [make_source(tmp_path / folder / "tiny") for folder in ("a", "b")]
    sources.append(make_source(tmp_path / "other"))
    written = write_report(sources, tmp_path / "report")
    text = written.report.read_text()
    assert [line for line in headings(text) if line.startswith("# ")] == [
        "# tiny",
        "# tiny",
        "# other",
    ]
    assert len(set(written.figures)) == 9
    assert figures_in(text) == [f"figures/{path.name}" for path in written.figures]
    assert len(written.answers) == 3


@pytest.fixture
def sweep(tmp_path, make_run, make_study, tables) -> Path:
    """A sweep over three temperatures; the run at 1.0 stopped before the last epoch."""
    directory = SweepDirectory(tmp_path / "sweep")
    study = make_study(temperature=0.1)
    directory.describe(SweepDescription("temperature", "temperature", (0.1, 0.5, 1.0), study))
    parts = []
    for value, epochs in ((0.1, (0, 10)), (0.5, (0, 10)), (1.0, (0,))):
        make_run(directory.run("temperature", value).path, make_study(temperature=value))
        similar = {"nscl": (1.0, value), "scl": (1.0, 0.25)}
        rows = tables.similarities(similar, similar, epochs=epochs)
        parts.append(rows.assign(temperature=value))
    write_parquet(directory.table, pd.concat(parts, ignore_index=True))
    return directory.path


def test_a_sweep_has_an_answer_for_each_finished_value(tmp_path, sweep):
    written = write_report([read_source(sweep)], tmp_path)
    first, second = written.answers[0].splitlines()
    assert first.startswith(
        "temperature 0.1: After epoch 10, on 1,360 test images, by CKA SCL (0.250) is closest"
    )
    assert second.startswith(
        "temperature 0.5: After epoch 10, on 1,360 test images, by CKA NSCL (0.500) is closest"
    )
    text = written.report.read_text()
    assert f"- {first}" in text
    assert "**Not finished: temperature 1.**" in text


def test_a_sweep_is_shown_by_its_setting_after_the_last_epoch(tmp_path, sweep):
    written = write_report([read_source(sweep)], tmp_path)
    text = written.report.read_text()
    table, settings = tables_in(text)
    assert table == [
        ["temperature", "CKA nscl", "CKA scl", "RSA nscl", "RSA scl"],
        ["0.1", "0.1000", "0.2500", "0.1000", "0.2500"],
        ["0.5", "0.5000", "0.2500", "0.5000", "0.2500"],
    ]
    assert figures_in(text) == ["figures/sweep.png"]
    assert "temperature" not in [row[0] for row in settings]  # it has no one value here


def test_a_sweep_of_which_nothing_has_finished_says_so(tmp_path, make_study):
    sweep = SweepDirectory(tmp_path / "sweep")
    description = SweepDescription("temperature", "temperature", (0.1, 1.0), make_study())
    sweep.describe(description)
    written = write_report([read_source(sweep.path)], tmp_path)
    assert written.answers == ("Nothing has finished yet.",)
    assert "**Not finished: temperature 0.1, 1.**" in written.report.read_text()


def test_a_report_is_replaced_when_written_again(tmp_path, make_source):
    source = make_source(tmp_path / "tiny")
    first = write_report([source], tmp_path / "report")
    before = first.report.read_text()
    assert write_report([source], tmp_path / "report").report.read_text() == before
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["figures", "report.md"]


def test_markdown_tables_have_a_header_and_a_line_of_dashes():
    text = markdown_table(["a", "b"], [["1", "2"], ["3", "4"]])
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"


def test_intervals_of_the_last_epoch_have_a_table(tmp_path, make_source, tables):
    source = make_source(tmp_path / "tiny")
    path = source.path / "alignment" / "alignment.parquet"
    rows = tables.similarities({"nscl": (1, 0.5, 0.25)}, {"nscl": (1, 0.75, 0.5)})
    rows = rows.assign(ci_low=rows["value"] - 0.125, ci_high=rows["value"] + 0.125,
                       confidence=0.9, p_value=None)  # fmt: skip
    write_parquet(path, rows)
    assert interval_table(tmp_path, source) == [
        ["split", "objective", "metric", "value", "low", "high", "confidence"],
        ["test", "nscl", "CKA", "0.2500", "0.1250", "0.3750", "0.9"],
        ["test", "nscl", "RSA", "0.5000", "0.3750", "0.6250", "0.9"],
    ]
    assert "Confidence intervals over images, epoch 10:" in report_text(tmp_path, source)
    write_parquet(path, rows.assign(p_value=0.05, interval="stratified"))
    assert "over images (stratified), epoch 10:" in report_text(tmp_path, source)
    assert [line[-1] for line in interval_table(tmp_path, source)] == ["p", "0.0500", "0.0500"]
    write_parquet(path, rows.assign(ci_low=None, ci_high=None))
    assert interval_table(tmp_path, source)[0][0] == "epoch", "no table of what is not there"


def report_text(folder, source):
    return write_report([read_source(source.path)], folder).report.read_text()


def interval_table(folder, source):
    text = report_text(folder, source)
    return tables_in(text)[1] if "Confidence intervals" in text else tables_in(text)[0]
