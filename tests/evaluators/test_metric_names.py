"""The fixtures are a table and a report as they were written when samples stood in names."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from alignctl.config.metric_configs import parse_metric, parse_metrics
from alignctl.evaluators.alignment import AlignmentJob, evaluate, pending
from alignctl.evaluators.alignment_table import read_table
from alignctl.evaluators.metric_names import rows_of, with_sample_columns
from alignctl.metrics.pairs import balanced_groups, num_pairs, num_pairs_of_compared
from alignctl.metrics.scoring import Question
from alignctl.reporting.markdown import write_report
from alignctl.reporting.table_sources import read_source
from alignctl.runs import RunDirectory

FIXTURES = Path(__file__).parent / "fixtures"
OLD_TABLE = FIXTURES / "alignment_with_samples_in_names.parquet"
# What was asked for when the table was written, and what is sampled of 48 and of 106 images.
ASKED = {
    "cka": (None, None),
    "rsa": (None, None),
    "knn k=3 images=20": ((20, None, 0), (20, None, 0)),
    "knn k=3 images=20 seed=4": ((20, None, 4), (20, None, 4)),
    "knn k=5 images=500": (None, None),
    "cka kernel=rbf images=30 seed=2": ((30, None, 2), (30, None, 2)),
    "cka hsic=debiased batch_size=8": (None, None),
    "rsa correlation=spearman": (None, None),
    "rsa correlation=kendall pairs=60": ((None, num_pairs(48, 60), 0), (None, 53, 0)),
    "rsa distance=euclidean pairs=500 seed=1": (
        (None, num_pairs(48, 500), 1),
        (None, num_pairs(106, 500), 1),
    ),
}


@pytest.fixture
def run(trained, tmp_path):
    """A run whose table an older version wrote."""
    run = RunDirectory(shutil.copytree(trained.path, tmp_path / "run"))
    run.alignment_table.parent.mkdir()
    shutil.copy(OLD_TABLE, run.alignment_table)
    return run


def job(run, metrics, **changes):
    pairs = (("cl", "nscl"), ("cl", "ce"))
    question = Question(parse_metrics(metrics))
    values = {"pairs": pairs, "splits": ("train", "test"), "epochs": (1, 2), **changes}
    return AlignmentJob(run=run.path, representations=("h",), question=question, **values)


def report_of(run, folder):
    write_report([read_source(run.path)], folder)
    return (folder / "report.md").read_text()


@pytest.mark.parametrize("text", ASKED)
def test_nothing_that_an_older_table_answers_is_pending(run, text):
    table = read_table(run)
    assert pending(job(run, [text]), table) == []
    (rows,) = rows_of(table, parse_metrics([text])).values()
    assert len(rows) == 2 * 2 * 2  # epochs, splits, pairs
    for split, sampled in zip(("train", "test"), ASKED[text], strict=True):
        here = rows[rows["split"] == split]
        columns = here[["num_sampled_images", "num_sampled_pairs", "sample_seed"]]
        found = {tuple(None if pd.isna(v) else v for v in row) for row in columns.to_numpy()}
        assert found == {sampled or (None, None, None)}
        whole = parse_metric(text).exact_identifier
        assert set(here["metric"]) == {parse_metric(text).identifier if sampled else whole}


def test_another_sample_than_the_older_tables_is_pending(run):
    table = read_table(run)
    others = [
        "knn k=3",
        "knn k=3 images=30",
        "knn k=3 images=20 seed=5",
        "knn k=5 images=40",
        "rsa correlation=kendall pairs=61",
        "rsa correlation=spearman pairs=100",
    ]
    for text in others:
        assert len(pending(job(run, [text]), table)) == 4, text
    assert pending(job(run, ["knn k=5", "knn k=5 images=106"]), table) == []


def test_no_number_of_an_older_table_changes(run):
    old, new = pd.read_parquet(OLD_TABLE), read_table(run)
    columns = [name for name in old if name != "metric"]
    pd.testing.assert_frame_equal(old[columns], new[columns])
    assert not new.duplicated(["epoch", "split", "objective", "metric"]).any()


def test_the_report_of_an_older_table_is_the_same_before_and_after_new_rows(
    run, one_process, tmp_path
):
    expected = (FIXTURES / "report_with_samples_in_names.md").read_text()
    before = report_of(run, tmp_path / "before")
    kept = "## Training"  # what follows tells of the run and the machine
    assert before.split(kept)[0] == expected.split(kept)[0]
    assert evaluate(one_process, job(run, ["procrustes"], epochs=(2,), splits=("test",))) == 1
    rewritten = pd.read_parquet(run.alignment_table)
    assert "knn k=3 distance=cosine images=20" in set(rewritten["metric"])
    rewritten[rewritten["metric"] != "procrustes"].to_parquet(run.alignment_table)
    assert report_of(run, tmp_path / "after").split(kept)[0] == expected.split(kept)[0]


def test_reading_a_table_again_changes_nothing(run):
    table = read_table(run)
    table.to_parquet(run.alignment_table)
    pd.testing.assert_frame_equal(read_table(run), table)


def row(metric, num_images, value=0.5):
    return {"metric": metric, "num_images": num_images, "value": value}


def test_an_exact_row_above_the_usual_limit_is_told_from_the_sample():
    exact, sampled = "knn k=10 distance=cosine", "knn k=10 distance=cosine images=20000 seed=0"
    table = with_sample_columns(pd.DataFrame([row(exact, 25_000), row(sampled, 20_000)]))
    assert list(table["metric"]) == [f"{exact} images=25000", exact]
    assert list(table["num_sampled_images"].isna()) == [True, False]
    pairs = with_sample_columns(
        pd.DataFrame([row("rsa distance=cosine correlation=kendall", 5_000)])
    )
    assert set(pairs["metric"]) == {"rsa distance=cosine correlation=kendall pairs=12497500"}


def test_names_that_are_not_of_a_metric_stay():
    names = ["CKA", "cka", "cka kernel=linear hsic=debiased batch_size=4", "knn k=0"]
    table = with_sample_columns(pd.DataFrame([row(name, 30_000) for name in names]))
    assert list(table["metric"]) == names
    assert table["num_sampled_images"].isna().all()


@pytest.mark.parametrize("has_value", [True, False])
def test_how_many_pairs_were_drawn_follows_from_how_many_images_they_had(has_value):
    name = "rsa distance=cosine correlation=kendall pairs=500 seed=0"
    for num_images in (33, 40, 48, 106, 250):
        groups = balanced_groups(num_images, 500, 0)
        count = groups.size if has_value else num_images
        rows = [row(name, count, 0.5 if has_value else None)]
        table = with_sample_columns(pd.DataFrame(rows).astype({"value": float}))
        expected = len(groups) * groups.shape[1] * (groups.shape[1] - 1) // 2
        assert table["num_sampled_pairs"].tolist() == [expected]
        assert expected == num_pairs(num_images, 500)
    assert num_pairs_of_compared(4001, 10**7) == num_pairs(5_000, 10**7) == 4001 * 2000
