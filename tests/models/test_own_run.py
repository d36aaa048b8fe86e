import pickle

import pytest
import torch

from alignctl.errors import CheckpointError
from alignctl.models.own_run import OwnRun
from alignctl.runs import Manifest
from alignctl.runs.checkpoints import save_weights
from alignctl.runs.directory import checkpoint_file


@pytest.fixture
def source(tmp_path, make_run):
    """A run with weights of ce after epoch 1, whose digest is in the manifest."""
    run = make_run(tmp_path / "run")
    sha256 = save_weights(checkpoint_file(run, "ce", 1), {"encoder.a": torch.ones(2)})
    manifest = Manifest.read(run.manifest_file).updated(checkpoints={1: {"ce": sha256}})
    manifest.write(run.manifest_file)
    return OwnRun(run)


def test_a_run_has_the_models_of_its_study(source):
    assert source.objectives == source.comparable == source.run.config.objective_names
    assert (source.epochs("ce"), source.epochs("cl")) == ([1], [])
    assert source.file("ce", 1) == source.folder / "ce" / "epoch_0001.safetensors"
    assert source.load("ce", 1)["encoder.a"].tolist() == [1, 1]
    assert source.where == str(source.run.path)


def test_weights_that_are_not_those_that_were_written_are_refused(source):
    save_weights(source.file("ce", 1), {"encoder.a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="it is not the file that was written"):
        source.load("ce", 1)


def test_nothing_is_remembered_of_files_that_do_not_change(source):
    before = {path: path.stat().st_mtime_ns for path in source.run.path.rglob("*")}
    model = ("ce", 1)
    source.prepare("verify")
    source.remember(source.identities([model]))
    source.forget([model])
    assert (source.unproven([model]), source.changed()) == (set(), {})
    assert {path: path.stat().st_mtime_ns for path in source.run.path.rglob("*")} == before


def test_a_run_keeps_its_config_where_its_data_have_moved(source, make_study):
    moved = source.with_config(make_study(seed=5))
    assert (moved.config.seed, moved.run.config.seed) == (5, source.config.seed)


def test_a_source_crosses_to_workers(source):
    assert source.config
    assert pickle.loads(pickle.dumps(source)) == source
