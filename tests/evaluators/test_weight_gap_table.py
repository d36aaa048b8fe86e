import shutil

import pandas as pd
import pytest
import torch
import yaml

from alignctl.errors import CheckpointError
from alignctl.evaluators.weight_gap_table import WeightGapJob, measure, totals
from alignctl.metrics import weight_gap
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import load_weights, save_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.table_files import read_parquet


def job(run, *objectives, reference="cl"):
    return WeightGapJob(run.path, reference, objectives)


def direct_gap(run, objective, epoch, reference="cl"):
    ours, theirs = (
        load_weights(checkpoint_file(run, name, epoch)) for name in (reference, objective)
    )
    return weight_gap(ours, theirs)


@pytest.fixture
def run(trained, tmp_path):
    """A run of our own, to write into."""
    shutil.copytree(trained.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def values_in(table, **keys):
    for column, value in keys.items():
        table = table[table[column] == value]
    return table["value"].tolist()


def test_rows_are_the_weight_gaps_of_every_pair_and_epoch(run, one_process):
    rows = measure(one_process, job(run, "nscl", "ce"))
    table = read_parquet(run.weight_gap_table)
    assert len(table) == len(rows)
    for objective in ("nscl", "ce"):
        for epoch in (0, 1, 2):
            gap, keys = direct_gap(run, objective, epoch), {"objective": objective, "epoch": epoch}
            assert values_in(table, quantity="mean", **keys) == [gap.mean]
            assert values_in(table, quantity="total", **keys) == [gap.total]
            assert values_in(table, quantity="angle_degrees", **keys) == [gap.angle_degrees]
            layers = table[(table["quantity"] == "layer") & (table["objective"] == objective)]
            layers = layers[layers["epoch"] == epoch]
            found = dict(zip(layers["layer"], layers["value"], strict=True))
            assert found == dict(gap.per_layer)
            assert all(name.startswith("encoder.") for name in found)
    assert direct_gap(run, "ce", 2).mean > 0.01


def test_there_is_no_gap_before_training(run, one_process):
    rows = measure(one_process, job(run, "ce"))
    assert {row.value for row in rows if row.epoch == 0} == {0.0}


@pytest.mark.parametrize(("name", "measured"), [("vit", False), ("timm", True)])
def test_queries_keys_and_values_count_in_models_of_timm_alone(run, one_process, name, measured):
    # whatever the config says of the encoder, the weights are these
    values = yaml.safe_load(run.config_file.read_text())
    values["encoder"] = {"name": name, "model": "test_vit"} if name == "timm" else {"name": name}
    run.config_file.write_text(yaml.safe_dump(values))
    weights = {"encoder.blocks.0.attn.qkv.weight": torch.ones(6, 2)}
    weights |= {"encoder.norm.weight": torch.ones(2)}
    manifest = Manifest.read(run.manifest_file)
    for path in run.checkpoints.glob("*/*.safetensors"):
        epoch = int(path.stem.removeprefix("epoch_"))
        manifest.checkpoints[epoch][path.parent.name] = save_weights(path, weights)
    manifest.write(run.manifest_file)
    rows = measure(one_process, job(run, "ce"))
    layers = {row.layer for row in rows if row.quantity == "layer"}
    assert ("encoder.blocks.0.attn.qkv.weight" in layers) == measured
    assert "encoder.norm.weight" in layers


def test_each_pair_has_a_csv_that_begins_with_the_originals_columns(run, one_process):
    measure(one_process, job(run, "nscl", "ce"))
    files = {path.name for path in run.weight_gap.glob("*.csv")}
    assert files == {"cl_vs_nscl.csv", "cl_vs_ce.csv"}
    table = pd.read_csv(run.weight_gap / "cl_vs_ce.csv")
    assert list(table.columns) == ["Epoch", "AVG_WEIGHT_DIFF", "TOTAL_WEIGHT_DIFF", "ANGLE_DEGREES"]
    expected = [direct_gap(run, "ce", epoch) for epoch in (0, 1, 2)]
    assert table["Epoch"].tolist() == [0, 1, 2]
    assert table["AVG_WEIGHT_DIFF"].tolist() == pytest.approx([gap.mean for gap in expected])
    assert table["TOTAL_WEIGHT_DIFF"].tolist() == pytest.approx([gap.total for gap in expected])
    angles = [gap.angle_degrees for gap in expected]
    assert table["ANGLE_DEGREES"].tolist() == pytest.approx(angles)


def test_totals_have_a_line_for_every_objective_and_epoch(run, one_process):
    table = totals(measure(one_process, job(run, "nscl", "ce")))
    assert list(table.columns) == ["objective", "epoch", "mean", "total", "angle_degrees"]
    lines = list(zip(table["objective"], table["epoch"], strict=True))
    assert sorted(lines) == [(name, epoch) for name in ("ce", "nscl") for epoch in (0, 1, 2)]


def test_pairs_not_asked_for_stay_and_those_asked_for_are_replaced(run, one_process):
    measure(one_process, job(run, "nscl", "ce"))
    measure(one_process, job(run, "ce", reference="scl"))
    table = read_parquet(run.weight_gap_table)
    table["value"] = -1.0
    table.to_parquet(run.weight_gap_table)
    measure(one_process, job(run, "ce"))
    again = read_parquet(run.weight_gap_table)
    assert len(again) == len(table)
    assert not again.duplicated(["epoch", "reference", "objective", "quantity", "layer"]).any()
    untouched = again[again["value"] == -1.0]
    pairs = set(zip(untouched["reference"], untouched["objective"], strict=True))
    assert pairs == {("cl", "nscl"), ("scl", "ce")}


def test_a_pair_without_common_weights_is_an_error(run, one_process):
    shutil.rmtree(run.checkpoints / "ce")
    with pytest.raises(CheckpointError, match="no epoch has weights of both cl and ce"):
        measure(one_process, job(run, "nscl", "ce"))
    assert not run.weight_gap_table.exists()
