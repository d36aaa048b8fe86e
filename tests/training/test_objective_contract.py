"""What every objective is promised, shown by two that use all of it: a slow copy, and masks."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "workers"))

import children
import trial_objectives
import trial_workers

from alignctl.config.objective_configs import BatchNeeds, ViewGroup
from alignctl.engine.launch import launch
from alignctl.engine.placement import ProcessPlan
from alignctl.errors import ConfigError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import file_digest, load_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.states import load_state
from alignctl.training.cohort import build_member
from alignctl.training.data import load_training_data
from alignctl.training.fingerprint import fingerprint
from alignctl.training.trainer import TrainingJob

TRIALS = "objectives=[cl, masked, momentum, {name: nscl}]"


@pytest.fixture(scope="module", autouse=True)
def registered():
    with trial_objectives.registered():
        yield


@pytest.fixture(scope="module")
def study_of(small_study):
    """A function of a placement."""
    return lambda placement="objectives": small_study(TRIALS, f"placement={placement}")


@pytest.fixture(scope="module")
def alone(study_of, one_process, tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("trials") / "run")
    context = replace(one_process, events_file=run.events_file)
    trial_workers.train_trial(context, TrainingJob(study_of(), run.path))
    return run


def launched(worker, payload, folder, number):
    plan = ProcessPlan(number, 1, "cpu")
    return launch(worker, payload, plan=plan, events_file=folder / "events.jsonl", stoppable=True)


def test_a_checkpoint_holds_what_is_exported_and_the_state_all_else(alone):
    for name in ("masked", "momentum"):
        weights = load_weights(checkpoint_file(alone, name, 2))
        assert {key.partition(".")[0] for key in weights} == {"encoder", "projector"}
    step = Manifest.read(alone.manifest_file).finished_epochs * 3
    own = load_state(alone, step, "momentum")["objective"]
    assert {key.partition(".")[0] for key in own} == {"teacher", "predictor", "center"}
    start = load_weights(checkpoint_file(alone, "momentum", 0))["projector.0.weight"]
    end = load_weights(checkpoint_file(alone, "momentum", 2))["projector.0.weight"]
    slow = own["teacher.projector.0.weight"]
    assert 0 < (slow - start).norm() < (end - start).norm(), "it follows, and is behind"


@pytest.mark.parametrize(
    ("placement", "number"),
    [
        ("objectives", 2),
        ("data", 2),
        pytest.param("objectives", 4, marks=pytest.mark.soak),
        pytest.param("data", 4, marks=pytest.mark.soak),
    ],
)
def test_all_placements_draw_the_same_batches_and_masks(
    placement, number, study_of, alone, tmp_path
):
    job = TrainingJob(study_of(placement), tmp_path / "run")
    launched(trial_workers.train_trial, job, tmp_path, number)
    ours = Manifest.read(RunDirectory(job.run).manifest_file)
    theirs = Manifest.read(alone.manifest_file)
    assert ours.status == "finished"
    assert ours.batches == theirs.batches
    assert ours.initial_weights == theirs.initial_weights


def test_the_digest_covers_what_objectives_ask_for(study_of, small_study):
    studies = (study_of(), small_study("objectives=[cl, momentum]"), study_of())
    assert set(studies[0].batch_needs.views) == {"local"}
    with_masks, without, again = (
        next(load_training_data(study, torch.device("cpu")).batches(0)) for study in studies
    )
    assert torch.equal(with_masks.images, without.images), "the views are shared all the same"
    assert set(with_masks.draws) == {"mask"} and not without.draws
    assert torch.equal(with_masks.draws["mask"], again.draws["mask"])
    assert not torch.equal(fingerprint(with_masks), fingerprint(without))
    local = with_masks.groups["local"]
    assert local.shape == (3, *with_masks.images.shape[1:])
    assert torch.equal(local, without.groups["local"])
    assert torch.equal(fingerprint(with_masks), fingerprint(again))
    again.groups["local"][2, 5, 1, 3, 3] += 2**-20
    assert not torch.equal(fingerprint(with_masks), fingerprint(again))
    again.groups["local"].copy_(local)
    with_masks.draws["mask"][3, 5] += 2**-24
    assert not torch.equal(fingerprint(with_masks), fingerprint(again))
    assert torch.equal(fingerprint(with_masks)[0], fingerprint(again)[0]), "the ids are the same"


def test_images_that_are_not_in_memory_have_the_further_views_too(streamed_study):
    changes = ("dataset.workers=0",)
    studies = (streamed_study(TRIALS, *changes), streamed_study("objectives=[cl]", *changes))
    asked, plain = (
        next(load_training_data(study, torch.device("cpu")).batches(0)) for study in studies
    )
    assert torch.equal(asked.images, plain.images)
    assert asked.groups["local"].shape == (3, *asked.images.shape[1:])
    assert asked.groups["local"].isfinite().all() and not plain.groups
    views = asked.groups["local"]
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[0], asked.images[0])


def test_other_views_by_one_name_are_an_error(study_of, monkeypatch):
    other = BatchNeeds(views={"local": ViewGroup(2, (0.05, 0.3))})
    monkeypatch.setattr(trial_objectives.MaskedConfig, "needs", lambda *_: other)
    message = "objectives: 'momentum' asks for other views 'local' than another objective"
    with pytest.raises(ConfigError, match=message):
        _ = study_of().batch_needs


def test_random_numbers_depend_on_seed_epoch_and_image_alone(study_of):
    data = load_training_data(study_of(), torch.device("cpu"))
    first, second = data.batches(0), data.batches(1)
    seen: dict[int, list[float]] = {}
    for epoch in (first, second):
        for batch in epoch:
            drawn = batch.uniforms("mask", 16)
            assert drawn.dtype == torch.float32 and (drawn >= 0).all() and (drawn < 1).all()
            for number, row in zip(batch.ids.tolist(), drawn.tolist(), strict=True):
                assert row not in seen.get(number, []), "another epoch, other numbers"
                seen.setdefault(number, []).append(row)
    assert len({tuple(rows[0]) for rows in seen.values()}) == len(seen)


def test_more_numbers_than_a_config_asks_for_are_an_error(study_of):
    batch = next(load_training_data(study_of(), torch.device("cpu")).batches(0))
    assert torch.equal(batch.uniforms("mask", 3), batch.uniforms("mask", 16)[:, :3])
    with pytest.raises(ValueError, match=r"'mask': 17 random numbers .* ask for 16; see `needs`"):
        batch.uniforms("mask", 17)
    with pytest.raises(ValueError, match=r"'noise': 1 random numbers .* ask for 0"):
        batch.uniforms("noise", 1)


@pytest.mark.parametrize("number", [1, 2, pytest.param(4, marks=pytest.mark.soak)])
def test_shares_of_a_batch_give_the_gradient_of_the_whole(number, study_of, tmp_path):
    expected = trial_workers.whole_gradients(study_of())
    found = launched(trial_workers.gradients, study_of("data"), tmp_path, number)
    assert set(expected) == {"masked", "momentum"}
    for name, whole in expected.items():
        assert np.linalg.norm(whole["gradient"]) > 1e-3
        parts = [worker[name]["part"] for worker in found]
        assert sum(parts) == pytest.approx(whole["part"], rel=1e-10)
        for worker in found:
            difference = worker[name]["gradient"] - whole["gradient"]
            assert np.linalg.norm(difference) < 1e-10 * np.linalg.norm(whole["gradient"])


def test_groups_and_hooks_see_the_progress_of_training(study_of):
    study = study_of()
    config = next(each for each in study.objectives if each.name == "momentum")
    member = build_member(study, config, num_classes=3, device=torch.device("cpu"))
    data = load_training_data(study, torch.device("cpu"))
    own = member.optimizer.param_groups[1]
    assert own["params"] == list(member.objective.predictor.parameters())
    before = member.objective.predictor.weight.clone()
    for step, batch in enumerate([*data.batches(0), *data.batches(1)]):
        progress = trial_objectives.StepProgress(step, num_steps=6, steps_per_epoch=3)
        member.step(batch, learning_rate=0.1, clip_norm=None, progress=progress)
        assert own["lr"] == pytest.approx(0.1 * (2 - step / 6))
        assert member.optimizer.param_groups[0]["lr"] == 0.1
        moved = not torch.equal(member.objective.predictor.weight, before)
        assert moved == (step >= 3), "its gradients are dropped in the first epoch"
    assert all(each.grad is None for each in member.objective.teacher.parameters())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills")
@pytest.mark.parametrize("changes", [(30, 25)])
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(changes, study_of, tmp_path, alone):
    path = tmp_path / "run"
    for change in (*changes, None):
        job = TrainingJob(study_of(), path)
        process = children.call(trial_workers.train_trial_until_killed, job, change)
        process.communicate(150)
        assert process.returncode == (0 if change is None else -signal.SIGKILL)
    for name in ("masked", "momentum"):
        for file in (
            f"checkpoints/{name}/epoch_0002.safetensors",
            f"state/step_{6:010d}/{name}.pt",
        ):
            assert file_digest(path / file) == file_digest(alone.path / file), file
    assert Manifest.read(path / "manifest.json").batches == (
        Manifest.read(alone.manifest_file).batches
    )
