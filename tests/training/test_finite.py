import json
import math

import pytest
import torch
from torch import nn

from alignctl.commands import pretrain
from alignctl.errors import CheckpointError, TrainingError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import load_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.states import load_state, newest_state, state_folder
from alignctl.training import record, trainer
from alignctl.training.cohort import Member
from alignctl.training.finite import (
    advice,
    in_words,
    infinite_buffers,
    not_finite,
    refuse_not_finite,
)

HUGE = ("training.optimizer.learning_rate=1e38", "training.clip_norm=null")
NEW_RUN = "start a new run with a smaller training.optimizer.learning_rate"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_tensors_of_a_state_that_are_not_finite_are_named(number, dtype):
    def tensor(last):
        return torch.tensor([[1.0], [last]], dtype=dtype)

    state = {
        "network": {"weight": tensor(2.0), "running_var": tensor(number)},
        "optimizer": {"state": {0: {"step": torch.tensor(3), "velocity": tensor(number)}}},
        "empty": {"none": torch.zeros(0), "count": torch.tensor(2**40), "flag": True},
        "options": [{"lr": 0.1}],
    }
    assert not_finite(state) == ["network.running_var", "optimizer.state.0.velocity"]
    known = not_finite(state, known=frozenset({"network.running_var"}))
    assert ("network.running_var" in known) == math.isnan(number)


def test_bounds_that_are_infinite_from_the_beginning_are_no_fault():
    bounded = nn.Linear(2, 2)
    bounded.register_buffer("low", torch.tensor(-math.inf))
    bounded.register_buffer("mean", torch.zeros(2))
    modules = {"network": bounded, "objective": nn.Identity()}
    known = infinite_buffers(modules)
    assert known == {"network.low"}
    optimizer = torch.optim.SGD(bounded.parameters(), lr=0.1)
    member = Member("cl", bounded, nn.Identity(), optimizer, infinite=known)
    assert member.not_finite() == []
    bounded.mean[1] = math.inf
    assert member.not_finite() == ["network.mean"]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (["a"], "a is not finite"),
        (["a", "b"], "a and 1 more tensor are not finite"),
        (["a", "b", "c"], "a and 2 more tensors are not finite"),
    ],
)
def test_how_many_tensors_are_not_finite_is_said(tensors, words):
    assert in_words(tensors) == words


@pytest.mark.parametrize(
    ("saved_step", "words"),
    [
        (None, f"nothing is saved; {NEW_RUN}"),
        (
            0,
            f"the initial state stays saved, but resuming would fail in the same way: {NEW_RUN}",
        ),
        (
            6,
            "the state after epoch 2, step 3 stays saved, but resuming would fail in the same way: "
            f"{NEW_RUN}",
        ),
    ],
)
def test_what_is_left_and_what_to_do_is_said(saved_step, words):
    assert advice(saved_step, steps_per_epoch=3) == words


def test_whichever_process_has_the_objective_all_refuse_its_state():
    parts = [{"cl": [], "ce": []}, {"scl": ["network.weight"], "nscl": []}]
    with pytest.raises(TrainingError) as error:
        refuse_not_finite(parts, step=4, saved_step=3, steps_per_epoch=3)
    assert str(error.value) == (
        "objective 'scl': network.weight is not finite after epoch 2, step 1, though no loss was "
        f"until then; {advice(3, steps_per_epoch=3)}"
    )
    refuse_not_finite(parts[:1], step=4, saved_step=3, steps_per_epoch=3)


def test_initial_weights_that_are_not_finite_are_refused():
    with pytest.raises(TrainingError) as error:
        refuse_not_finite([{"cl": ["w", "v"]}], step=0, saved_step=None, steps_per_epoch=3)
    message = "w and 1 more tensor are not finite before the first step; see encoder.weights"
    assert str(error.value) == f"objective 'cl': {message}"


def manifest_of(run):
    return Manifest.read(run.manifest_file)


def all_finite(run):
    states = [int(path.name.removeprefix("step_")) for path in run.state.iterdir()]
    names = run.config.objective_names
    files = [
        checkpoint_file(run, name, epoch) for name in names for epoch in saved_epochs(run, name)
    ]
    return not any(
        not_finite(load_state(run, step, name)) for step in states for name in names
    ) and (not any(not_finite(load_weights(path)) for path in files))


@pytest.mark.parametrize("name", ["cl", "ce"])
def test_a_last_step_that_makes_weights_too_large_does_not_finish_a_run(
    small_study, train_alone, tmp_path, name
):
    one_step = ("training.epochs=1", "training.batch_size=48", "checkpoint_epochs=[0]")
    study = small_study(f"objectives=[{name}]", *one_step, *HUGE)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(TrainingError) as error:
        train_alone(study, run.path)
    assert str(error.value) == (
        f"objective '{name}': the network's output is not finite after epoch 1, step 1, though no "
        f"loss was until then; {advice(0, steps_per_epoch=1)}"
    )
    assert (manifest_of(run).status, manifest_of(run).finished_epochs) == ("running", 0)
    assert saved_epochs(run, name) == [0]
    assert newest_state(run).point.step == 0
    assert all_finite(run)


def break_at(monkeypatch, step, *, objective, key="network"):
    """Training whose objective gets a NaN in a buffer, weight or optimiser state at a step."""
    taken = {}
    original = Member.step

    def take(member, batch, **options):
        loss = original(member, batch, **options)
        taken[member.name] = taken.get(member.name, 0) + 1
        if (member.name, taken[member.name]) == (objective, step):
            tensor = {
                "network": lambda: next(member.network.parameters()),
                "buffer": lambda: next(member.network.buffers()),
                "optimizer": lambda: next(iter(member.optimizer.state.values()))["momentum_buffer"],
            }[key]()
            with torch.no_grad():
                tensor[(0,) * tensor.ndim] = math.nan
        return loss

    monkeypatch.setattr(Member, "step", take)


@pytest.mark.parametrize("key", ["network", "optimizer", "buffer"])
def test_a_state_that_is_not_finite_never_replaces_one_that_is(
    small_study, train_alone, tmp_path, monkeypatch, key
):
    study = small_study(
        "objectives=[cl, ce]", "training.epochs=4", "checkpoint_epochs=[0, 1, 2, 3]"
    )
    break_at(monkeypatch, 6, objective="ce", key=key)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(
        TrainingError, match=r"'ce': .* not finite after epoch 2, step 3, "
    ) as error:
        train_alone(study, run.path)
    assert advice(3, steps_per_epoch=3) in str(error.value)
    assert saved_epochs(run, "ce") == saved_epochs(run, "cl") == [0, 1]
    assert manifest_of(run).finished_epochs == 1
    assert newest_state(run).point.step == 3
    assert all_finite(run)


def test_a_run_that_is_asked_to_stop_does_not_save_what_is_not_finite(
    small_study, train_alone, tmp_path, monkeypatch
):
    study = small_study("objectives=[cl]")
    break_at(monkeypatch, 2, objective="cl")
    monkeypatch.setattr(
        "alignctl.engine.context.WorkerContext.stops_before", lambda self, step: step >= 2
    )
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(TrainingError, match="not finite after epoch 1, step 2, "):
        train_alone(study, run.path)
    assert newest_state(run).point.step == 0
    assert all_finite(run)


@pytest.fixture
def of_an_earlier_version(small_study, train_alone, tmp_path, monkeypatch):
    """A function of the step that makes a NaN: a run that has saved it, of two epochs of four."""

    def make(step):
        overrides = ("objectives=[cl]", "training.epochs=4", "checkpoint_epochs=[0, 1, 2, 3]")
        with monkeypatch.context() as patch:
            patch.setattr(record, "refuse_not_finite", lambda *_, **__: None)
            break_at(patch, step, objective="cl", key="buffer")
            train_steps = trainer._train_steps

            def until_the_third(session, *, epoch, first_step):
                if epoch == 2:
                    raise KeyboardInterrupt
                return train_steps(session, epoch=epoch, first_step=first_step)

            patch.setattr(trainer, "_train_steps", until_the_third)
            with pytest.raises(KeyboardInterrupt):
                train_alone(small_study(*overrides), tmp_path / "run")
        return RunDirectory(tmp_path / "run")

    return make


def test_a_run_whose_last_state_is_not_finite_goes_on_from_the_one_before(
    of_an_earlier_version, train_alone
):
    run = of_an_earlier_version(6)
    assert newest_state(run).point.step == 6 and not all_finite(run)
    train_alone(run.config, run.path)
    events = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    (warning,) = [event["text"] for event in events if event["event"] == "warning"]
    assert warning.startswith(f"{state_folder(run, 6)}: objective 'cl': network.encoder.")
    assert warning.endswith(" is not finite; going on from the state before it")
    assert manifest_of(run).status == "finished"
    assert all_finite(run)


def test_a_run_without_any_finite_state_is_refused(of_an_earlier_version, train_alone):
    run = of_an_earlier_version(1)
    with pytest.raises(CheckpointError) as error:
        train_alone(run.config, run.path)
    message = "holds no state whose weights are finite; start a new run"
    assert str(error.value) == f"{run.state}: {message}"


def test_a_finished_run_whose_weights_are_not_finite_is_no_success(
    small_study, train_alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(record, "refuse_not_finite", lambda *_, **__: None)
    break_at(monkeypatch, 6, objective="ce")
    run = train_alone(small_study("objectives=[cl, ce]"), tmp_path / "run")
    assert manifest_of(run).status == "finished"
    plan = pretrain.plan(None, (), run_dir=run.path, nproc="1", resume=True)
    with pytest.raises(TrainingError) as error:
        pretrain.run(plan)
    assert str(error.value).startswith(f"{checkpoint_file(run, 'ce', 2)}: encoder.")
    assert str(error.value).endswith(f" is not finite, though it is finished; {NEW_RUN}")
