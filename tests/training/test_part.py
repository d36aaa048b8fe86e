import math

import pytest

from alignctl.errors import TrainingError
from alignctl.training.fingerprint import epoch_digest
from alignctl.training.log import TrainingLog
from alignctl.training.part import EpochPart, after_part, merged
from alignctl.training.record import Progress, Session


def part(losses, fingerprints, first_step=0):
    return EpochPart(
        first_step=first_step,
        losses=losses,
        learning_rates=[0.1] * len(fingerprints),
        fingerprints=fingerprints,
        seconds=0.5,
    )


def test_groups_bring_their_objectives_and_peers_their_shares():
    parts = [
        part({"cl": [1.0, 2.0]}, [(1, 5), (2, 6)]),
        part({"cl": [0.5, 0.25]}, [(10, 50), (20, 60)]),
        part({"ce": [3.0, 4.0]}, [(11, 0), (0, 66)]),
        part({"ce": [1.0, 1.0]}, [(0, 55), (22, 0)]),
    ]
    found = merged(parts, num_shares=2, epoch=1)
    assert found.losses == {"cl": [1.5, 2.25], "ce": [4.0, 5.0]}
    assert found.fingerprints == [(11, 55), (22, 66)]


def test_groups_that_saw_other_batches_are_refused():
    parts = [part({"cl": [1.0]}, [(1, 2)]), part({"ce": [1.0]}, [(1, 3)])]
    with pytest.raises(TrainingError, match="saw different images or views in epoch 7"):
        merged(parts, num_shares=1, epoch=7)


@pytest.fixture
def session(one_process, small_study):
    class Data:
        steps_per_epoch = 3

    return Session(one_process, run=None, study=small_study(), data=Data(), members=())


def test_an_epoch_in_two_parts_is_recorded_as_in_one(session, make_manifest):
    seen = [(1, 2), (3, 4), (5, 6)]
    start = Progress(6, make_manifest(batches={1: "ab", 2: "cd"}, finished_epochs=2))
    log, log_of_two = TrainingLog(["cl"]), TrainingLog(["cl"])
    whole = after_part(session, start, log, [part({"cl": [3.0, 2.0, 1.0]}, seen)], epoch=3)
    half = after_part(session, start, log_of_two, [part({"cl": [3.0]}, seen[:1])], epoch=3)
    assert (half.step, half.fingerprints) == (7, ((1, 2),))
    assert (half.manifest.finished_epochs, list(half.manifest.batches)) == (2, [1, 2])
    rest = part({"cl": [2.0, 1.0]}, seen[1:], first_step=1)
    both = after_part(session, half, log_of_two, [rest], epoch=3)
    for progress in (whole, both):
        assert (progress.step, progress.fingerprints) == (9, ())
        assert progress.manifest.finished_epochs == 3
        assert progress.manifest.batches[3] == epoch_digest(seen)
    assert log.table().equals(log_of_two.table())


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_objective_epoch_and_step(session, make_manifest, loss):
    parts = [part({"cl": [1.0, 1.0], "ce": [1.0, loss]}, [(1, 2), (3, 4)], first_step=1)]
    message = rf"objective 'ce': the loss is {loss} at epoch 2, step 3; .*learning_rate"
    with pytest.raises(TrainingError, match=message):
        after_part(session, Progress(4, make_manifest()), TrainingLog(["cl", "ce"]), parts, epoch=2)


def test_of_several_losses_that_are_not_finite_the_first_step_is_named(session, make_manifest):
    losses = {"cl": [1.0, 1.0, math.nan], "ce": [1.0, math.inf, math.nan]}
    parts = [part(losses, [(1, 2), (3, 4), (5, 6)])]
    with pytest.raises(TrainingError) as error:
        after_part(
            session, Progress(3, make_manifest(), saved_step=3), TrainingLog(["cl", "ce"]), parts,
            epoch=2,
        )  # fmt: skip
    assert str(error.value) == (
        "objective 'ce': the loss is inf at epoch 2, step 2; the state after epoch 1, step 3 stays "
        "saved, but resuming would fail in the same way: start a new run with a smaller "
        "training.optimizer.learning_rate"
    )
