"""Checkpoints of the original code through the command line, from its folders to tables."""

import json
import shutil
from pathlib import Path

import children
import pandas as pd
import pytest
import yaml

from alignctl.config.metric_configs import ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.metrics import compare, weight_gap
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest
from alignctl.runs.table_files import read_parquet

ORIGINAL = ["Epoch", "NSCL_RSA", "SCL_RSA", "NSCL_CKA", "SCL_CKA", "CE_RSA", "CE_CKA"]
GAP_COLUMNS = ["Epoch", "AVG_WEIGHT_DIFF", "TOTAL_WEIGHT_DIFF", "ANGLE_DEGREES"]
SHORT = {ORIGINAL_CKA: "CKA", ORIGINAL_RSA: "RSA"}
EVAL = ["eval-alignment", "--config", "study.yaml", "--checkpoints", "theirs", "--output", "out"]
GAP = ["weight-gap", "--checkpoints", "theirs", "--output", "out"]
NOTE = (
    "note: out: has no config, which eval-alignment and report need; "
    "the same command with --config FILE adds it\n"
)
THERE = Path("theirs")
EPOCHS = (0, 1, 2)


def out():
    """The run as it lies now: a RunDirectory remembers what it has read."""
    return RunDirectory(Path("out"))


def snapshot(folder=Path()):
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def scores_of(table, split):
    rows = table[(table["split"] == split) & (table["reference"] == "cl")]
    keys = rows[["epoch", "objective", "metric"]].itertuples(index=False, name=None)
    return dict(zip(keys, rows["value"], strict=True))


def expected_scores(features, split, pairs):
    found = {}
    for name, epoch in pairs:
        spaces = [features(split, each, epoch) for each in ("cl", name)]
        for score in compare(*spaces, ["cka", "cka hsic=debiased", "rsa"]):
            found[epoch, name, score.metric] = score.value
    return found


# --- eval-alignment


def test_the_scores_are_those_of_the_features_of_all_images(call, theirs, features):
    before = snapshot(THERE)
    ended = call(*EVAL)
    assert (ended.code, ended.stderr) == (0, "")
    table = read_parquet(out().alignment_table)
    pairs = [(name, epoch) for name in ("nscl", "scl", "ce") for epoch in EPOCHS]
    for split in ("train", "test"):
        expected = expected_scores(features, split, pairs)
        assert scores_of(table, split) == pytest.approx(expected, abs=2e-5)
        csv = pd.read_csv(f"out/{split}_alignment.csv")
        assert list(csv.columns) == ORIGINAL
        assert csv["Epoch"].tolist() == list(EPOCHS)
        for line in csv.to_dict("records"):
            for name, metric in [(n, m) for n in ("nscl", "scl", "ce") for m in SHORT]:
                found = line[f"{name.upper()}_{SHORT[metric]}"]
                assert found == pytest.approx(expected[line["Epoch"], name, metric], abs=2e-5)
    assert min(expected.values()) < 0.9
    assert snapshot(THERE) == before


def test_the_run_directory_points_to_the_snapshots_and_claims_no_more_than_is_known(
    call, theirs, prepared
):
    call(*EVAL, "--split", "test", "--epochs", "1", "--metric", "cka")
    assert json.loads(out().pointer_file.read_text()) == {
        "schema_version": 1,
        "checkpoints": str(THERE.absolute()),
        "objectives": ["cl", "nscl", "scl", "ce"],
    }
    assert out().config == theirs
    manifest = Manifest.read(out().manifest_file)
    start = digest(prepared[1]["cl", 0].state_dict())
    assert manifest.initial_weights == dict.fromkeys(("cl", "nscl", "scl", "ce"), start)
    assert (manifest.status, manifest.batches, manifest.checkpoints) == ("adopted", {}, {})
    assert (manifest.seed, manifest.num_train_images, manifest.num_processes) == (None, None, 0)
    assert manifest.machine == {}
    names = {path.name for path in out().path.iterdir()}
    assert names == {"config.yaml", "manifest.json", "original.json", "events.jsonl", "alignment",
                     "test_alignment.csv"}  # fmt: skip


def test_a_second_call_evaluates_nothing_and_more_epochs_go_on_from_there(
    call, theirs, prepared, tmp_path
):
    late = [THERE / name / "snapshot_2.pth" for name in ("dcl", "nscl", "scl", "ce")]
    for path in late:
        path.rename(tmp_path / f"{path.parent.name}.aside")
    first = json.loads(call(*EVAL, "--json").stdout)
    before = snapshot()
    second = json.loads(call(*EVAL, "--json").stdout)
    assert (first.pop("evaluated"), second.pop("evaluated")) == (4, 0)
    assert first == second
    assert snapshot() == before
    for path in late:
        (tmp_path / f"{path.parent.name}.aside").rename(path)
    assert json.loads(call(*EVAL, "--json").stdout)["evaluated"] == 2
    assert pd.read_csv("out/test_alignment.csv")["Epoch"].tolist() == list(EPOCHS)


def test_later_commands_take_it_like_any_run(call, theirs, features):
    call(*EVAL, "--split", "test")
    more = call("eval-alignment", "out", "--metric", "procrustes", "--split", "test", "--json")
    rows = json.loads(more.stdout)["rows"]
    (value,) = [row["value"] for row in rows if (row["objective"], row["epoch"]) == ("ce", 2)]
    spaces = [features("test", name, 2) for name in ("cl", "ce")]
    (score,) = compare(*spaces, ["procrustes"])
    assert value == pytest.approx(score.value, abs=1e-4)
    kept = call("eval-alignment", "out", "--keep-features", "--epochs", "2", "--split", "test")
    assert kept.code == 0
    files = sorted((out().features / "epoch_0002" / "test_h").glob("*.npy"))
    assert [path.stem for path in files] == ["ce", "cl", "nscl", "scl"], "by our names"
    assert call("weight-gap", "out").code == 0
    assert Path("out/cl_vs_ce.csv").is_file()


def test_what_the_original_calls_its_options_works(call, theirs):
    ended = call(
        "eval-alignment",
        "-c",
        "study.yaml",
        "--ckpt_path",
        "theirs",
        "--output_path",
        "out",
        "dataset.images_per_class=12",
        "--split",
        "test",
        "--epochs",
        2,
    )
    assert (ended.code, ended.stderr) == (0, "")
    assert out().config.dataset.images_per_class == 12
    assert list(pd.read_csv("out/test_alignment.csv").columns) == ORIGINAL
    words = ["--checkpoints_dir", "theirs", "--compare", "nscl", "scl", "--output_file", "gaps"]
    assert call("weight-gap", *words).code == 0
    assert sorted(p.name for p in Path("gaps").glob("*.csv")) == ["cl_vs_nscl.csv", "cl_vs_scl.csv"]
    short = call("eval-alignment", "-c", "study.yaml", "-ckpt", "theirs", "-out", "x", "--dry-run")
    plan = yaml.safe_load(short.stdout)
    assert (plan["run"], plan["checkpoints"]) == ("x", str(THERE.absolute()))


def test_its_own_config_beside_its_own_checkpoints_is_all_that_is_needed(call, theirs, original):
    original["model"] |= {"encoder_type": "resnet18", "width_multiplier": 0.0625}
    original["model"] |= {"hidden_dim": 16, "projection_dim": 8}
    Path("theirs.yaml").write_text(yaml.safe_dump(original))
    words = ["--ckpt_path", "theirs", "--output_path", "out", "--split", "test", "--epochs", 2]
    data = ["dataset.name=digits", "dataset.classes=3", "dataset.images_per_class=16"]
    ended = call("eval-alignment", "--config", "theirs.yaml", *words, *data)
    assert ended.code == 0
    assert ended.stderr.startswith("note: theirs.yaml")
    assert "warning" not in ended.stderr
    assert pd.read_csv("out/test_alignment.csv").notna().all(axis=None)
    assert (out().config.temperature, out().config.dataset.name) == (0.1, "digits")


def test_all_pairs_another_reference_and_chosen_objectives(call, theirs):
    plan = yaml.safe_load(call(*EVAL, "--all-pairs", "--dry-run").stdout)
    assert plan["pairs"] == ["cl - nscl", "cl - scl", "cl - ce", "nscl - scl", "nscl - ce",
                             "scl - ce"]  # fmt: skip
    plan = yaml.safe_load(call(*EVAL, "--compare", "dcl", "ce", "nscl", "--dry-run").stdout)
    assert plan["pairs"] == ["cl - ce", "cl - nscl"], "without the reference itself"
    words = ["--reference", "scl", "--compare", "dcl", "--dry-run"]
    assert yaml.safe_load(call(*EVAL, *words).stdout)["pairs"] == ["scl - cl"]
    assert not out().path.exists()


# --- weight-gap


def test_the_gaps_are_those_of_the_networks_and_ce_has_one_too(call, theirs, prepared):
    ended = call(*GAP, "--compare", "cl", "nscl", "scl", "ce")
    assert (ended.code, ended.stderr) == (0, NOTE)
    for name in ("nscl", "scl", "ce"):
        table = pd.read_csv(f"out/cl_vs_{name}.csv")
        assert list(table.columns) == GAP_COLUMNS
        assert table["Epoch"].tolist() == list(EPOCHS)
        for line in table.to_dict("records"):
            networks = [prepared[1][each, line["Epoch"]] for each in ("cl", name)]
            gap = weight_gap(*(network.state_dict() for network in networks))
            assert line["AVG_WEIGHT_DIFF"] == pytest.approx(gap.mean)
            assert line["ANGLE_DEGREES"] == pytest.approx(gap.angle_degrees)
    layers = set(read_parquet(out().weight_gap_table)["layer"]) - {""}
    encoder = prepared[1]["cl", 0].encoder.state_dict()
    assert layers == {f"encoder.{n}" for n in encoder if n.endswith(".weight")}


def test_without_a_config_a_later_evaluation_joins(call, theirs):
    call(*GAP)
    assert not out().config_file.exists()
    for words in (["eval-alignment", "out"], ["report", "to", "markdown", "out"]):
        ended = call(*words)
        assert (ended.code, ended.stdout) == (2, "")
        assert ended.stderr.startswith("error: out: has no config, for none was given with its che")
    assert call(*EVAL, "--split", "test").code == 0
    assert out().config == theirs
    assert Path("out/cl_vs_ce.csv").is_file()
    assert call("report", "to", "markdown", "out").code == 0
    before = snapshot(out().path)
    assert call(*GAP).code == 0, "and one without a config leaves it as it is"
    after = snapshot(out().path)
    assert {k: v for k, v in after.items() if "events" not in k} == {
        k: v for k, v in before.items() if "events" not in k
    }


def test_the_same_command_with_a_config_adds_it(call, theirs):
    assert call(*GAP).stderr == NOTE
    adopted = Manifest.read(out().manifest_file)
    ended = call(*GAP, "--config", "study.yaml")
    assert (ended.code, ended.stderr) == (0, "")
    assert out().config == theirs
    assert call("report", "to", "markdown", "out").code == 0
    after = Manifest.read(out().manifest_file)
    assert (adopted.name, after.name) == ("out", "small")
    assert after.started_at == adopted.started_at
    assert after.initial_weights == adopted.initial_weights


def test_networks_of_other_widths_have_no_gap(call, theirs, original_snapshots):
    shutil.rmtree(THERE / "ce")
    original_snapshots(THERE, "encoder.width=0.125", without=("cl", "nscl", "scl"))
    ended = call(*GAP)
    assert ended.code == 1
    assert ended.stderr.startswith("error: epoch 0, cl and ce: encoder.conv1.weight: shapes (4, ")


# --- CSV files


def test_the_csvs_of_any_run_can_lie_elsewhere_too(call, theirs):
    call(*EVAL, "--split", "test")
    ended = call("eval-alignment", "out", "--output", "tables", "--split", "test")
    assert (ended.code, ended.stderr) == (0, "")
    found = {path.name: path.read_bytes() for path in Path("tables").iterdir()}
    assert found == {"test_alignment.csv": (out().alignment / "test_alignment.csv").read_bytes()}
    call("weight-gap", "out", "--output", "tables", "--compare", "ce")
    assert {path.name for path in Path("tables").iterdir()} == {
        "test_alignment.csv",
        "cl_vs_ce.csv",
    }
    ended = call("weight-gap", "out", "--output", "study.yaml")
    assert (ended.code, ended.stderr) == (2, "error: --output: study.yaml is a file\n")


def test_the_real_commands_work_in_processes_of_their_own(call, theirs):
    words = ["--split", "test", "--nproc", "2", "--device", "cpu", "--json"]
    done = children.run(Path.cwd(), *EVAL, *words, "--compare", "nscl", "ce")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evaluated"] == 3
    filled = pd.read_csv("out/test_alignment.csv").notna().all().to_dict()
    assert [name for name, there in filled.items() if there] == [
        "Epoch", "NSCL_RSA", "NSCL_CKA", "CE_RSA", "CE_CKA",
    ]  # fmt: skip
