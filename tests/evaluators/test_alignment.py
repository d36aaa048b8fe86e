import functools
import itertools
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA, parse_metrics
from alignctl.datasets import load_images
from alignctl.encoders import Network, build_network
from alignctl.errors import AlignctlError, CheckpointError
from alignctl.evaluators import alignment
from alignctl.evaluators.alignment import AlignmentJob, evaluate
from alignctl.evaluators.alignment_table import AlignmentRow, csv_files, read_table
from alignctl.features.feature_store import drop_passing
from alignctl.metrics import compare
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.scoring import Question, scores
from alignctl.processes import Alone
from alignctl.reporting.answers import answer
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import load_weights, save_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.views.augmentations import normalise

OTHERS = ("dcl", "nscl", "scl", "ce")
ORIGINAL = ["Epoch", "NSCL_RSA", "SCL_RSA", "NSCL_CKA", "SCL_CKA", "CE_RSA", "CE_CKA"]
SHORT = {ORIGINAL_CKA: "CKA", ORIGINAL_RSA: "RSA"}
USUAL = ("cka", "rsa")
# In every form: sums over images, kernels, pairs, neighbours, products, and a sample of images.
MANY = ("cka", "cka hsic=debiased", "cka kernel=rbf", "rsa", "rsa correlation=spearman",
        "cka_lower_bound", "knn k=3", "knn k=3 images=20 seed=4", "procrustes")  # fmt: skip
CONFIDENCE, SHUFFLES = 0.9, 19


def job(run, *, metrics=USUAL, confidence=0.95, permutations=0, **changes):
    values = {"reference": "cl", "objectives": OTHERS, "splits": ("train", "test"),
              "representations": ("h",), **changes}  # fmt: skip
    reference, objectives = values.pop("reference"), values.pop("objectives")
    values.setdefault("pairs", tuple((reference, name) for name in objectives))
    question = Question(parse_metrics(metrics), confidence, permutations)
    return AlignmentJob(run=run.path, question=question, **values)


def copy_of(run, folder):
    shutil.copytree(run.path, folder / "run")
    return RunDirectory(folder / "run")


@pytest.fixture
def run(trained, tmp_path):
    """A run of our own, to write into."""
    return copy_of(trained, tmp_path)


@torch.no_grad()
def direct_features(run, name, epoch, split, representation="h"):
    """Features without the code under test: one pass, all images at once, in float64."""
    study = run.config
    network = build_network(study)
    weights = load_weights(checkpoint_file(run, name, epoch))
    shared = {k: v for k, v in weights.items() if not k.startswith("objective.")}
    network.load_state_dict(shared)
    network.double().eval()
    images = torch.from_numpy(load_images(study.dataset, split).images)
    h = network.encoder(normalise(images, study.augmentation).double())
    return h if representation == "h" else network.projector(h)


def direct_scores(
    run, *, pairs=None, metrics=USUAL, representation="h", split="test", epochs=(0, 1, 2), **options
):
    """Every score of every pair and epoch, by (epoch, reference, objective, metric)."""
    options.setdefault("labels", load_images(run.config.dataset, split).labels)
    pairs = pairs or [("cl", name) for name in OTHERS]
    found = {}
    for epoch in epochs:
        spaces = {
            name: direct_features(run, name, epoch, split, representation)
            for name in dict.fromkeys(itertools.chain(*pairs))
        }
        for a, b in pairs:
            for score in compare(spaces[a], spaces[b], metrics, **options):
                found[epoch, a, b, score.metric] = score
    return found


def values_of(scores):
    return {key: score.value for key, score in scores.items()}


def column_of(table, column="value", *, split="test", representation="h"):
    rows = table[(table["split"] == split) & (table["representation"] == representation)]
    keys = ["epoch", "reference", "objective", "metric"]
    assert not rows.duplicated(keys).any()
    return dict(zip(rows[keys].itertuples(index=False, name=None), rows[column], strict=True))


@pytest.fixture(scope="module")
def evaluation(trained, one_process, pool, tmp_path_factory):
    """A function of a number of processes, by which a run is evaluated once."""

    @functools.cache
    def start(size):
        run = copy_of(trained, tmp_path_factory.mktemp("evaluated"))
        options = {"metrics": MANY, "confidence": CONFIDENCE, "permutations": SHUFFLES}
        asked = job(run, **options, keep_features=True)
        if size == 1:
            assert evaluate(one_process, asked) == 6
        else:
            assert pool.launch(evaluate, asked, size=2, events_file=run.events_file) == [6, 6]
        return run

    return start


# Fixtures of a module with two parameters each would be made anew at every change of one
@pytest.fixture(params=[1, 2], ids=["1-process", "2-processes"])
def evaluated(request, evaluation):
    return evaluation(request.param)


@pytest.fixture(scope="module")
def measurement(trained):
    """A function of a split: the scores of its features as they are measured directly."""
    options = {"metrics": MANY, "confidence": CONFIDENCE, "permutations": SHUFFLES}
    return functools.cache(lambda split: direct_scores(trained, split=split, **options))


@pytest.fixture(params=["train", "test"])
def measured(request, measurement):
    return request.param, measurement(request.param)


def test_scores_equal_the_metrics_of_the_features_of_all_images(evaluated, measured):
    split, expected = measured
    found = column_of(read_table(evaluated), split=split)
    assert found == pytest.approx(values_of(expected), abs=2e-5)
    assert len(found) == 3 * len(OTHERS) * len(MANY)
    assert min(value for key, value in found.items() if key[3] == ORIGINAL_CKA) < 0.9


def test_intervals_and_p_values_are_those_of_the_features(evaluated, measured):
    split, expected = measured
    table = read_table(evaluated)
    for column in ("ci_low", "ci_high", "p_value"):
        found = column_of(table, column, split=split)
        wanted = {key: getattr(score, column) for key, score in expected.items()}
        assert {key for key in found if np.isnan(found[key])} == {
            key for key in wanted if wanted[key] is None
        }
        there = {key: value for key, value in wanted.items() if value is not None}
        assert len(there) >= 3 * len(OTHERS) * 3
        assert {key: found[key] for key in there} == pytest.approx(there, abs=1e-4)
    assert set(table["confidence"].dropna()) == {CONFIDENCE}
    assert (table["confidence"].isna() == table["ci_low"].isna()).all()
    assert set(table["permutations"]) == {SHUFFLES}


def test_every_row_says_how_many_images_it_is_about_and_what_was_computed(evaluated, measured):
    split, expected = measured
    table = read_table(evaluated).astype({"interval": object})
    table = table.assign(interval=table["interval"].where(table["interval"].notna(), None))
    for column in ("num_images", "form", "interval"):
        found = column_of(table, column, split=split)
        assert found == {key: getattr(score, column) for key, score in expected.items()}
    whole = len(load_images(evaluated.config.dataset, split).ids)
    sizes = {score.num_images for score in expected.values()}
    assert sizes == {20, whole} if whole != 20 else {20}


def test_the_table_has_the_columns_of_a_row_in_order(evaluated):
    assert list(read_table(evaluated).columns) == list(AlignmentRow.__dataclass_fields__)


def test_models_are_alike_before_training(evaluated):
    found = column_of(read_table(evaluated))
    alike = [value for key, value in found.items() if key[0] == 0 and key[3] in SHORT]
    assert alike == pytest.approx([1.0] * 8)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_csv_has_the_originals_columns_and_the_scores_of_every_epoch(evaluated, split):
    table = pd.read_csv(evaluated.alignment / f"{split}_alignment.csv")
    assert list(table.columns) == [*ORIGINAL, "DCL_CKA", "DCL_RSA"]
    assert table["Epoch"].tolist() == [0, 1, 2]
    lines = {line["Epoch"]: line for line in table.to_dict("records")}
    for (epoch, _, name, metric), value in column_of(read_table(evaluated), split=split).items():
        if metric in SHORT:
            assert lines[epoch][f"{name.upper()}_{SHORT[metric]}"] == pytest.approx(
                value, abs=1e-15
            )


def test_kept_features_are_those_of_every_model_epoch_and_split(evaluated):
    for epoch, split, name in itertools.product((0, 1, 2), ("train", "test"), ("cl", *OTHERS)):
        path = evaluated.features / f"epoch_{epoch:04d}" / f"{split}_h" / f"{name}.npy"
        expected = direct_features(evaluated, name, epoch, split).numpy()
        np.testing.assert_allclose(np.load(path), expected, rtol=1e-4, atol=1e-5)


def test_without_dcl_the_csv_has_exactly_the_originals_columns(run, one_process):
    evaluate(one_process, job(run, objectives=("nscl", "scl", "ce")))
    for split in ("train", "test"):
        text = (run.alignment / f"{split}_alignment.csv").read_text()
        assert text.splitlines()[0] == ",".join(ORIGINAL)
        assert not pd.read_csv(run.alignment / f"{split}_alignment.csv").isna().any(axis=None)


def test_an_objective_that_was_not_trained_leaves_empty_cells(run, one_process):
    evaluate(one_process, job(run, objectives=("scl",), splits=("test",)))
    header, *lines = (run.alignment / "test_alignment.csv").read_text().splitlines()
    assert header == ",".join(ORIGINAL)
    filled = [[name for name, cell in zip(ORIGINAL, line.split(","), strict=True) if cell]
              for line in lines]  # fmt: skip
    assert filled == [["Epoch", "SCL_RSA", "SCL_CKA"]] * 3
    assert not (run.alignment / "train_alignment.csv").exists()


def mark(run):
    """Put a value into every row that computing it again would not give."""
    table = read_table(run)
    table["value"] = 0.5
    table.to_parquet(run.alignment_table)


def marked_in(table):
    """The keys of the rows that were not computed again."""
    rows = table[table["value"] == 0.5]
    return set(rows[["epoch", "split", "metric"]].itertuples(index=False, name=None))


def test_epochs_already_evaluated_are_skipped(run, one_process, tmp_path):
    hidden = [(checkpoint_file(run, name, 2), tmp_path / name) for name in ("cl", *OTHERS)]
    for path, aside in hidden:
        path.rename(aside)
    assert evaluate(one_process, job(run)) == 4
    mark(run)
    for path, aside in hidden:
        aside.rename(path)
    assert evaluate(one_process, job(run)) == 2
    table = read_table(run)
    assert set(table.loc[table["epoch"] < 2, "value"]) == {0.5}
    expected = values_of(direct_scores(run, epochs=[2]))
    found = {key: value for key, value in column_of(table).items() if key[0] == 2}
    assert found == pytest.approx(expected, abs=2e-5)
    csv = pd.read_csv(run.alignment / "test_alignment.csv")
    assert csv["Epoch"].tolist() == [0, 1, 2]
    assert csv["CE_CKA"].tolist()[:2] == [0.5, 0.5]
    assert evaluate(one_process, job(run)) == 0


def test_only_the_chosen_epochs_are_evaluated(run, one_process):
    assert evaluate(one_process, job(run, epochs=(2,), splits=("test",))) == 1
    assert set(read_table(run)["epoch"]) == {2}
    mark(run)
    assert evaluate(one_process, job(run, epochs=(0, 2), splits=("test",))) == 1
    assert evaluate(one_process, job(run, splits=("test",))) == 1
    table = read_table(run)
    assert {epoch for epoch, _, _ in marked_in(table)} == {2}
    assert pd.read_csv(run.alignment / "test_alignment.csv")["Epoch"].tolist() == [0, 1, 2]


SOME = {"objectives": ("nscl", "ce"), "splits": ("test",), "epochs": (1, 2)}


@pytest.fixture(scope="module")
def some_answered(trained, one_process, tmp_path_factory):
    """A run with answers to `SOME`, and marks in them; for reading only."""
    run = copy_of(trained, tmp_path_factory.mktemp("answered"))
    assert evaluate(one_process, job(run, **SOME, confidence=0.95, permutations=9)) == 2
    mark(run)
    return run


@pytest.mark.parametrize(
    ("change", "evaluated_again"),
    [
        ({}, 0),
        ({"confidence": 0.9}, 2),
        ({"interval": "simple"}, 2),
        ({"interval": "simple", "confidence": None}, 0),
        ({"permutations": 10}, 2),
        ({"permutations": 9}, 0),
        ({"permutations": 5}, 0),
        ({"permutations": 0}, 0),
        ({"confidence": None, "permutations": 0}, 0),
        ({"metrics": ("rsa",)}, 0),
        ({"metrics": ("cka", "cka hsic=debiased")}, 2),
    ],
    ids=str,
)
def test_what_the_table_does_not_answer_is_evaluated_again(
    some_answered, one_process, tmp_path, change, evaluated_again
):
    run = copy_of(some_answered, tmp_path)
    asked = {**SOME, "confidence": 0.95, "permutations": 9, **change}
    assert evaluate(one_process, job(run, **asked)) == evaluated_again
    table = read_table(run)
    names = {metric.identifier for metric in job(run, **asked).question.metrics}
    old = {metric for _, _, metric in marked_in(table)} & names
    assert old == (set() if evaluated_again else names)
    assert evaluate(one_process, job(run, **asked)) == 0
    if evaluated_again:
        assert set(table["confidence"]) == {asked["confidence"]}
        assert set(table["permutations"]) == {asked["permutations"]}
        assert set(table["interval"]) == {asked.get("interval", "stratified")}
    assert len(column_of(table)) == len(table), "nothing stands twice"


def test_a_sampled_metric_is_answered_by_its_sample(run, one_process):
    asked = {**SOME, "metrics": ("knn k=3 images=20", "rsa correlation=kendall pairs=60")}
    assert evaluate(one_process, job(run, **asked)) == 2
    assert set(read_table(run)["metric"]) == {
        "knn k=3 distance=cosine images=20",
        "rsa distance=cosine correlation=kendall pairs=60",
    }
    assert evaluate(one_process, job(run, **asked)) == 0
    other = [f"{metric} seed=1" for metric in asked["metrics"]]
    assert evaluate(one_process, job(run, **SOME, metrics=other)) == 2
    assert len(set(read_table(run)["metric"])) == 4


def test_other_metrics_stand_beside_the_usual_ones_and_not_in_the_csv(run, one_process):
    evaluate(one_process, job(run, **SOME))
    before = read_table(run)
    csv = (run.alignment / "test_alignment.csv").read_bytes()
    assert csv.startswith(",".join(ORIGINAL).encode() + b"\n")
    more = ("procrustes", "cka hsic=debiased", "rsa distance=correlation", "cka kernel=cosine")
    assert evaluate(one_process, job(run, **SOME, metrics=more)) == 2
    table = read_table(run)
    assert len(table) == 3 * len(before)
    same = table[table["metric"].isin(SHORT)].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, before)
    assert (run.alignment / "test_alignment.csv").read_bytes() == csv
    assert sorted(path.name for path in run.alignment.iterdir()) == [
        "alignment.parquet", "test_alignment.csv",
    ]  # fmt: skip


def test_without_the_originals_metrics_there_is_no_csv(run, one_process):
    evaluate(one_process, job(run, **SOME, metrics=("cka hsic=debiased",)))
    assert set(read_table(run)["metric"]) == {DEBIASED_CKA}
    assert [path.name for path in run.alignment.iterdir()] == ["alignment.parquet"]


def test_other_references_and_representations_stand_beside_each_other(run, one_process):
    pairs, splits = (("nscl", "cl"), ("nscl", "ce")), ("test",)
    evaluate(one_process, job(run, splits=splits))
    assert evaluate(one_process, job(run, splits=splits, pairs=pairs, representations=("g",))) == 3
    table = read_table(run)
    found = column_of(table, representation="g")
    expected = values_of(direct_scores(run, pairs=pairs, representation="g"))
    assert found == pytest.approx(expected, abs=2e-5)
    assert column_of(table) == pytest.approx(values_of(direct_scores(run)), abs=2e-5)
    files = sorted(path.name for path in run.alignment.glob("*.csv"))
    assert files == ["test_alignment.csv", "test_alignment_vs_nscl_g.csv"]
    columns = pd.read_csv(run.alignment / "test_alignment_vs_nscl_g.csv").columns
    assert list(columns) == ["Epoch", "CL_CKA", "CL_RSA", "CE_CKA", "CE_RSA"]


def test_all_pairs_are_compared_and_each_reference_has_a_csv(run, one_process):
    pairs = tuple(itertools.combinations(("cl", "nscl", "ce"), 2))
    asked = {"pairs": pairs, "splits": ("test",), "metrics": ("cka", "rsa", "knn k=3")}
    assert evaluate(one_process, job(run, **asked)) == 3
    expected = direct_scores(run, pairs=pairs, metrics=asked["metrics"])
    assert column_of(read_table(run)) == pytest.approx(values_of(expected), abs=2e-5)
    headers = {path.name: path.read_text().splitlines()[0] for path in run.alignment.glob("*.csv")}
    assert headers == {
        "test_alignment.csv": ",".join(ORIGINAL),
        "test_alignment_vs_nscl.csv": "Epoch,CE_CKA,CE_RSA",
    }


def test_a_layer_is_a_representation_with_a_csv_of_its_name(run, one_process):
    evaluate(one_process, job(run, **SOME, representations=("encoder.layer2",)))
    table = read_table(run)
    assert set(table["representation"]) == {"encoder.layer2"}
    assert column_of(table, representation="encoder.layer2") != pytest.approx(
        values_of(direct_scores(run, pairs=[("cl", "nscl"), ("cl", "ce")], epochs=(1, 2))),
        abs=1e-3,
    )
    names = sorted(path.name for path in run.alignment.glob("*.csv"))
    assert names == ["test_alignment_encoder.layer2.csv"]


def test_layers_asked_for_together_have_the_rows_of_each_alone(
    run, trained, one_process, tmp_path, monkeypatch
):
    layers = ("layer2", "h", "g")
    passes = []
    original = torch.nn.Module.__call__
    monkeypatch.setattr(
        Network, "__call__", lambda *args: passes.append(1) or original(*args), raising=False
    )
    alone = copy_of(trained, tmp_path / "alone")
    for layer in layers:
        assert evaluate(one_process, job(alone, **SOME, representations=(layer,))) == 2
    num_passes = len(passes)
    passes.clear()
    assert evaluate(one_process, job(run, **SOME, representations=layers)) == 6
    assert len(passes) == num_passes // 3 > 0
    pd.testing.assert_frame_equal(read_table(run), read_table(alone))
    names = [sorted(path.name for path in each.alignment.iterdir()) for each in (run, alone)]
    assert names[0] == names[1]
    assert evaluate(one_process, job(run, **SOME, representations=(*layers, "layer1"))) == 2


def test_kept_features_serve_a_later_question(run, one_process, monkeypatch):
    evaluate(one_process, job(run, **SOME, keep_features=True))
    kept = {path: path.read_bytes() for path in run.features.rglob("*") if path.is_file()}
    monkeypatch.setattr(alignment, "load_network", None)
    assert evaluate(one_process, job(run, **SOME, metrics=("procrustes",))) == 2
    assert {path: path.read_bytes() for path in run.features.rglob("*") if path.is_file()} == kept


def test_features_are_kept_on_demand_though_the_scores_are_there(run, one_process):
    evaluate(one_process, job(run, **SOME))
    before = read_table(run)
    assert evaluate(one_process, job(run, **SOME, keep_features=True)) == 2
    assert len(list(run.features.rglob("*.npy"))) == 2 * len(job(run, **SOME).names)
    assert evaluate(one_process, job(run, **SOME, keep_features=True)) == 0
    pd.testing.assert_frame_equal(read_table(run), before)


def test_features_that_are_not_kept_leave_nothing(run, one_process):
    evaluate(one_process, job(run, **SOME))
    assert not run.features.exists()


def test_a_table_of_a_time_before_intervals_is_kept_and_made_anew(run, one_process):
    evaluate(one_process, job(run, **SOME))
    new = read_table(run)
    old = new.drop(columns=["ci_low", "ci_high", "confidence", "p_value", "permutations", "form"])
    old.assign(metric="cka", value=0.5).to_parquet(run.alignment_table)
    assert len(read_table(run)) == len(new)
    assert evaluate(one_process, job(run, **SOME)) == 2
    table = read_table(run)
    assert set(table.loc[table["metric"] == "cka", "value"]) == {0.5}
    again = table[table["metric"] != "cka"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, new, check_dtype=False)


def test_intervals_of_a_time_before_they_said_over_what_are_made_anew(run, one_process):
    metrics = ("cka", "procrustes")
    evaluate(one_process, job(run, **SOME, metrics=metrics))
    new = read_table(run)
    new.assign(value=0.5).drop(columns=["interval"]).to_parquet(run.alignment_table)
    assert evaluate(one_process, job(run, **SOME, metrics=("procrustes",))) == 0
    assert evaluate(one_process, job(run, **SOME, metrics=metrics)) == 2
    pd.testing.assert_frame_equal(read_table(run), new, check_dtype=False)


def test_batches_of_a_time_before_seeds_are_measured_anew(run, one_process):
    metrics = ("cka hsic=debiased batch_size=4",)
    evaluate(one_process, job(run, **SOME, metrics=metrics))
    new = read_table(run)
    assert set(new["interval"]) == {"batches"}
    old = new.assign(value=0.5, metric="cka kernel=linear hsic=debiased batch_size=4")
    old.to_parquet(run.alignment_table)
    assert evaluate(one_process, job(run, **SOME, metrics=metrics)) == 2
    table = read_table(run)
    assert set(table.loc[~table["metric"].str.endswith("seed=0"), "value"]) == {0.5}
    assert evaluate(one_process, job(run, **SOME, metrics=metrics)) == 0


def test_a_run_without_common_weights_is_an_error(run, one_process):
    shutil.rmtree(run.checkpoints / "scl")
    with pytest.raises(CheckpointError, match="no epoch has weights of all objectives yet"):
        evaluate(one_process, job(run))
    assert not run.alignment.exists()


def spoil(run, fault):
    path = checkpoint_file(run, "ce", 1)
    weights = load_weights(path)
    faulty = {name: torch.full_like(value, fault) if value.is_floating_point() else value
              for name, value in weights.items()}  # fmt: skip
    manifest = Manifest.read(run.manifest_file)
    written = {**manifest.checkpoints[1], "ce": save_weights(path, faulty)}
    manifest.updated(checkpoints={**manifest.checkpoints, 1: written}).write(run.manifest_file)


def check_refused(run, context, metric):
    with pytest.raises(AlignctlError, match=r"^epoch 1, test, h: ce"):
        evaluate(context, job(run, splits=("test",), metrics=(metric,)))
    assert set(read_table(run)["epoch"]) == {0}, "what was found before is kept"
    drop_passing(run.features, os.getpid())  # as the command does
    assert not run.features.exists()


@pytest.mark.parametrize("metric", ["cka", "rsa", "knn k=3", "rsa correlation=spearman"])
def test_constant_features_are_an_error_that_names_epoch_split_and_model(run, one_process, metric):
    spoil(run, 0.0)
    check_refused(run, one_process, metric)


def test_what_cannot_be_computed_by_itself_is_a_row_with_its_reason(run, one_process):
    spoil(run, 0.0)
    usual = job(run, splits=("test",))
    usual = replace(usual, question=replace(usual.question, each_by_itself=True))
    assert evaluate(one_process, usual) == 3
    table = read_table(run)
    missing = table[table["value"].isna()]
    assert set(zip(missing["epoch"], missing["objective"], strict=True)) == {(1, "ce")}
    assert dict(zip(missing["metric"], missing["note"], strict=True)) == {
        ORIGINAL_CKA: "ce: every row is the same",
        ORIGINAL_RSA: "ce, row 0: all zeros, so it has no cosine",
    }
    assert table.loc[table["value"].notna(), "note"].isna().all()
    choices = {"representations": ("h",), "splits": usual.splits, "references": ("cl",)}
    csv = pd.read_csv(csv_files(run, **choices)[0])
    assert csv.loc[csv["Epoch"] == 1, ["CE_CKA", "CE_RSA"]].isna().all(axis=None)
    assert csv.loc[csv["Epoch"] == 1, ["NSCL_CKA", "SCL_RSA"]].notna().all(axis=None)
    assert evaluate(one_process, usual) == 0, "a row without a value is an answer"
    last = answer(table[table["epoch"] < 2], run.config)
    assert "No score at this epoch: CE" in last
    assert "nan" not in last
    with pytest.raises(AlignctlError, match=r"^epoch 1, test, h: ce: every row is the same"):
        evaluate(one_process, job(run, splits=("test",), metrics=("cka",)))


@pytest.mark.parametrize(
    "metric",
    ["cka", "rsa", "cka kernel=rbf", "knn k=3"],
)
def test_features_that_are_not_finite_are_an_error_that_names_the_model(run, one_process, metric):
    spoil(run, float("nan"))
    check_refused(run, one_process, metric)


def test_a_row_is_named_by_its_place_among_all_images_by_every_process():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    y = x.clone()
    y[70] = 0
    spaces, question = [InMemory(x), InMemory(y)], Question(parse_metrics(["rsa"]))
    with pytest.raises(ValueError, match="ce, row 70: all zeros"):
        second = Alone(rank=1, size=2)
        scores(spaces, [(0, 1)], question, names=("cl", "ce"), processes=second)
