import shutil

import pytest
import torch

from alignctl.analysis.models import common_epochs, load_network
from alignctl.config.load import apply_overrides, validate_study
from alignctl.encoders import build_network
from alignctl.errors import CheckpointError
from alignctl.runs import RunDirectory
from alignctl.runs.checkpoints import checkpoint_file, digest, load_weights

CPU = torch.device("cpu")


def without_own(weights):
    return {name: value for name, value in weights.items() if not name.startswith("objective.")}


@pytest.mark.parametrize("objective", ["cl", "ce"])
def test_a_network_comes_back_with_its_weights_ready_to_evaluate(trained, objective):
    network = load_network(trained, objective, 2, CPU)
    weights = load_weights(checkpoint_file(trained, objective, 2))
    assert digest(network.state_dict()) == digest(without_own(weights))
    assert not any(module.training for module in network.modules())


def test_epoch_zero_is_the_initial_network(trained):
    network = load_network(trained, "nscl", 0, CPU)
    assert digest(network.state_dict()) == digest(build_network(trained.config).state_dict())


def test_features_are_computed_in_float32_whatever_training_used(train_run):
    run = train_run("training.precision=bfloat16", "objectives=[cl]", "training.epochs=1")
    network = load_network(run, "cl", 1, CPU)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    h = network(images).h
    assert not torch.equal(h, h.bfloat16().float())


def test_weights_that_do_not_fit_the_config_are_named(trained, tmp_path):
    values = trained.config.model_dump(mode="json")
    run = RunDirectory(tmp_path)
    run.write_config(validate_study(apply_overrides(values, ["encoder.width=0.125"]), "wider"))
    shutil.copytree(trained.checkpoints, run.checkpoints)
    with pytest.raises(CheckpointError) as error:
        load_network(run, "cl", 1, CPU)
    path = checkpoint_file(run, "cl", 1)
    assert str(error.value).startswith(f"{path}: does not fit the run's config: size mismatch")
    assert "\n" not in str(error.value)


def test_common_epochs_are_those_that_all_objectives_have(trained, tmp_path):
    run = RunDirectory(tmp_path)
    for name, epochs in (("cl", [0, 1, 2]), ("ce", [10, 2, 1]), ("scl", [1, 10])):
        for epoch in epochs:
            checkpoint_file(run, name, epoch).parent.mkdir(parents=True, exist_ok=True)
            checkpoint_file(run, name, epoch).touch()
    assert common_epochs(run, ("cl", "ce")) == [1, 2]
    assert common_epochs(run, ("ce",)) == [1, 2, 10]
    assert common_epochs(run, ("cl", "ce", "scl")) == [1]
    assert common_epochs(run, ("cl", "nscl")) == []
