import shutil

import pandas as pd
import pytest
import torch

from alignctl.analysis.alignment import AlignmentJob, evaluate, read_table
from alignctl.augmentations import normalise
from alignctl.datasets import load_images
from alignctl.encoders import build_network
from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan
from alignctl.errors import AlignctlError, CheckpointError
from alignctl.metrics import linear_cka, rsa
from alignctl.runs import RunDirectory
from alignctl.runs.checkpoints import checkpoint_file, load_weights, save_weights

OTHERS = ("dcl", "nscl", "scl", "ce")
ORIGINAL = ["Epoch", "NSCL_RSA", "SCL_RSA", "NSCL_CKA", "SCL_CKA", "CE_RSA", "CE_CKA"]


def job(run, **changes):
    values = {
        "reference": "cl", "objectives": OTHERS, "splits": ("train", "test"), "representation": "h",
    }  # fmt: skip
    return AlignmentJob(run=run.path, **{**values, **changes})


def copy_of(run, folder):
    shutil.copytree(run.path, folder / "run")
    return RunDirectory(folder / "run")


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


def direct_scores(run, *, reference="cl", objectives=OTHERS, representation="h", split="test"):
    scores = {}
    for epoch in (0, 1, 2):
        x, *others = (
            direct_features(run, name, epoch, split, representation)
            for name in (reference, *objectives)
        )
        for name, y in zip(objectives, others, strict=True):
            scores[epoch, name, "cka"] = linear_cka(x, y)
            scores[epoch, name, "rsa"] = rsa(x, y)
    return scores


def scores_in(table, split="test", reference="cl", representation="h"):
    rows = table[
        (table["split"] == split)
        & (table["reference"] == reference)
        & (table["representation"] == representation)
    ]
    keys = zip(rows["epoch"], rows["objective"], rows["metric"], strict=True)
    return dict(zip(keys, rows["value"], strict=True))


@pytest.fixture(scope="module", params=[1, 2], ids=["1-process", "2-processes"])
def evaluated(request, trained, one_process, tmp_path_factory):
    run = copy_of(trained, tmp_path_factory.mktemp("evaluated"))
    if request.param == 1:
        assert evaluate(one_process, job(run)) == 6
    else:
        counts = launch(
            evaluate, job(run), plan=ProcessPlan(2, 1, "cpu"), events_file=run.events_file
        )
        assert counts == [6, 6]
    return run


@pytest.mark.parametrize("split", ["train", "test"])
def test_scores_equal_the_metrics_of_the_features_of_all_images(evaluated, split):
    found = scores_in(read_table(evaluated), split)
    expected = direct_scores(evaluated, split=split)
    assert found == pytest.approx(expected, abs=2e-5)
    assert len(found) == 3 * len(OTHERS) * 2
    assert min(found.values()) < 0.9, "the models do differ"


def test_models_are_alike_before_training(evaluated):
    found = scores_in(read_table(evaluated))
    assert [value for key, value in found.items() if key[0] == 0] == pytest.approx([1.0] * 8)


def test_the_number_of_images_is_that_of_the_whole_split(evaluated):
    counts = read_table(evaluated).groupby("split")["num_images"].unique()
    sizes = {
        split: len(load_images(evaluated.config.dataset, split).ids) for split in ("train", "test")
    }
    assert {split: counts[split].tolist() for split in counts.index} == {
        split: [size] for split, size in sizes.items()
    }
    assert sizes["train"] == 48 != sizes["test"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_csv_has_the_originals_columns_and_the_scores_of_every_epoch(evaluated, split):
    table = pd.read_csv(evaluated.alignment / f"{split}_alignment.csv")
    assert list(table.columns) == [*ORIGINAL, "DCL_CKA", "DCL_RSA"]
    assert table["Epoch"].tolist() == [0, 1, 2]
    found = scores_in(read_table(evaluated), split)
    for line in table.to_dict("records"):
        for (epoch, name, metric), value in found.items():
            if epoch == line["Epoch"]:
                assert line[f"{name.upper()}_{metric.upper()}"] == pytest.approx(value, abs=1e-15)


def test_without_dcl_the_csv_has_exactly_the_originals_columns(trained, one_process, tmp_path):
    run = copy_of(trained, tmp_path)
    evaluate(one_process, job(run, objectives=("nscl", "scl", "ce")))
    for split in ("train", "test"):
        text = (run.alignment / f"{split}_alignment.csv").read_text()
        assert text.splitlines()[0] == ",".join(ORIGINAL)
        assert not pd.read_csv(run.alignment / f"{split}_alignment.csv").isna().any(axis=None)


def test_an_objective_that_was_not_trained_leaves_empty_cells(trained, one_process, tmp_path):
    run = copy_of(trained, tmp_path)
    evaluate(one_process, job(run, objectives=("scl",), splits=("test",)))
    header, *lines = (run.alignment / "test_alignment.csv").read_text().splitlines()
    assert header == ",".join(ORIGINAL)
    filled = [[name for name, cell in zip(ORIGINAL, line.split(","), strict=True) if cell]
              for line in lines]  # fmt: skip
    assert filled == [["Epoch", "SCL_RSA", "SCL_CKA"]] * 3
    assert not (run.alignment / "train_alignment.csv").exists()


def test_epochs_already_evaluated_are_skipped(trained, one_process, tmp_path):
    run = copy_of(trained, tmp_path)
    hidden = [(checkpoint_file(run, name, 2), tmp_path / name) for name in ("cl", *OTHERS)]
    for path, aside in hidden:
        path.rename(aside)
    assert evaluate(one_process, job(run)) == 4
    marked = read_table(run)
    marked["value"] = 0.5  # computed again, it would not be
    marked.to_parquet(run.alignment_table)
    for path, aside in hidden:
        aside.rename(path)
    assert evaluate(one_process, job(run)) == 2
    table = read_table(run)
    assert set(table.loc[table["epoch"] < 2, "value"]) == {0.5}
    assert scores_in(table)[2, "ce", "cka"] == pytest.approx(direct_scores(run)[2, "ce", "cka"])
    csv = pd.read_csv(run.alignment / "test_alignment.csv")
    assert csv["Epoch"].tolist() == [0, 1, 2]
    assert csv["CE_CKA"].tolist()[:2] == [0.5, 0.5]
    assert evaluate(one_process, job(run)) == 0


def test_other_references_and_representations_stand_beside_each_other(
    trained, one_process, tmp_path
):
    run = copy_of(trained, tmp_path)
    choice = {"objectives": ("cl", "ce"), "reference": "nscl", "representation": "g"}
    evaluate(one_process, job(run, splits=("test",)))
    assert evaluate(one_process, job(run, splits=("test",), **choice)) == 3
    table = read_table(run)
    found = scores_in(table, reference="nscl", representation="g")
    assert found == pytest.approx(direct_scores(run, **choice), abs=2e-5)
    assert scores_in(table) == pytest.approx(direct_scores(run), abs=2e-5)
    files = sorted(path.name for path in run.alignment.glob("*.csv"))
    assert files == ["test_alignment.csv", "test_alignment_vs_nscl_g.csv"]
    columns = pd.read_csv(run.alignment / "test_alignment_vs_nscl_g.csv").columns
    assert list(columns) == ["Epoch", "CL_CKA", "CL_RSA", "CE_CKA", "CE_RSA"]


def test_a_run_without_common_weights_is_an_error(trained, one_process, tmp_path):
    run = copy_of(trained, tmp_path)
    shutil.rmtree(run.checkpoints / "scl")
    with pytest.raises(CheckpointError, match="no epoch has weights of all objectives yet"):
        evaluate(one_process, job(run))
    assert not run.alignment.exists()


def test_constant_features_are_an_error_that_names_epoch_and_split(trained, one_process, tmp_path):
    run = copy_of(trained, tmp_path)
    path = checkpoint_file(run, "ce", 1)
    weights = load_weights(path)
    save_weights(path, {name: torch.zeros_like(value) for name, value in weights.items()})
    with pytest.raises(AlignctlError, match="epoch 1, test"):
        evaluate(one_process, job(run, splits=("test",)))
    assert set(read_table(run)["epoch"]) == {0}, "what was found before is kept"
