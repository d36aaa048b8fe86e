import hashlib

import pytest
import torch

from alignctl.errors import CheckpointError
from alignctl.runs import RunDirectory
from alignctl.runs.checkpoints import (
    digest,
    drop_states_before,
    load_state,
    load_weights,
    resumable_epoch,
    save_state,
    save_weights,
)
from alignctl.runs.directory import checkpoint_file, saved_epochs

OBJECTIVES = ("cl", "ce")


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


def weights() -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    return {
        "layer.weight": torch.randn(3, 4, generator=stream),
        "norm.num_batches_tracked": torch.tensor(7),
        "half": torch.randn(5, generator=stream).to(torch.bfloat16),
    }


def test_weights_come_back_to_the_last_bit(run):
    path = checkpoint_file(run, "cl", 10)
    save_weights(path, weights())
    found = load_weights(path)
    assert digest(found) == digest(weights())
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        name: tensor.dtype for name, tensor in weights().items()
    }
    assert path.relative_to(run.path).as_posix() == "checkpoints/cl/epoch_0010.safetensors"
    assert list(path.parent.iterdir()) == [path]


def test_transposed_and_trained_tensors_are_saved_by_value(run):
    path = checkpoint_file(run, "cl", 0)
    matrix = torch.arange(6.0).reshape(2, 3).requires_grad_()
    save_weights(path, {"transposed": matrix.t()})
    assert torch.equal(load_weights(path)["transposed"], matrix.detach().t())


def test_saved_epochs_are_those_with_whole_files_in_order(run):
    assert saved_epochs(run, "cl") == []
    for epoch in (100, 0, 20, 12000):
        save_weights(checkpoint_file(run, "cl", epoch), {})
    folder = run.checkpoints / "cl"
    (folder / ".epoch_0030.safetensors.7.partial").touch()
    (folder / "epoch_last.safetensors").touch()
    assert saved_epochs(run, "cl") == [0, 20, 100, 12000]
    assert saved_epochs(run, "ce") == []


def test_a_missing_or_cut_checkpoint_is_named(run):
    path = checkpoint_file(run, "cl", 1)
    with pytest.raises(CheckpointError, match=r"epoch_0001\.safetensors: cannot be read: "):
        load_weights(path)
    save_weights(path, weights())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"epoch_0001\.safetensors: cannot be read: "):
        load_weights(path)


def test_state_comes_back_with_tensors_and_plain_values(run):
    state = {"optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "groups": [{"lr": 0.1}]}}
    save_state(run, 3, "cl", state)
    found = load_state(run, 3, "cl")
    assert found["optimizer"]["groups"] == [{"lr": 0.1}]
    assert torch.equal(found["optimizer"]["state"][0]["momentum"], torch.ones(2))


class Malicious:
    """What a pickle could run."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a checkpoint was run')",))


def test_a_state_never_runs_code(run):
    save_state(run, 3, "cl", {"payload": Malicious()})
    with pytest.raises(CheckpointError, match=r"cl\.pt: cannot be read: ") as error:
        load_state(run, 3, "cl")
    assert "\n" not in str(error.value)


def test_a_missing_cut_or_foreign_state_is_named(run):
    with pytest.raises(CheckpointError, match=r"cl\.pt: cannot be read: "):
        load_state(run, 3, "cl")
    save_state(run, 3, "cl", {"a": torch.ones(100)})
    (path,) = run.state.rglob("cl.pt")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"cl\.pt: cannot be read: "):
        load_state(run, 3, "cl")
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match=r"cl\.pt: holds no training state"):
        load_state(run, 3, "cl")


def test_resuming_starts_from_the_last_epoch_that_every_objective_has(run):
    assert resumable_epoch(run, OBJECTIVES, at_most=99) is None
    for epoch, names in ((2, OBJECTIVES), (9, OBJECTIVES), (10, ("cl",)), (11, ("ce",))):
        for name in names:
            save_state(run, epoch, name, {})
    assert resumable_epoch(run, OBJECTIVES, at_most=99) == 9
    assert resumable_epoch(run, OBJECTIVES, at_most=9) == 9
    assert resumable_epoch(run, OBJECTIVES, at_most=8) == 2
    assert resumable_epoch(run, OBJECTIVES, at_most=1) is None
    assert resumable_epoch(run, ("cl",), at_most=99) == 10


def test_dropping_states_keeps_the_newest(run):
    for epoch in (1, 5, 10):
        save_state(run, epoch, "cl", {})
    drop_states_before(run, 10)
    assert resumable_epoch(run, ("cl",), at_most=99) == 10
    assert [path.name for path in run.state.iterdir()] == ["epoch_0010"]


def test_the_digest_is_the_documented_one():
    tensors = {"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor(0.5)}
    text = b"a torch.float32 ()\n" + b"\x00\x00\x00\x3f"
    text += b"b torch.int16 (2,)\n" + b"\x01\x00\x02\x00"
    assert digest(tensors) == hashlib.sha256(text).hexdigest()


def test_the_digest_knows_nothing_of_order_and_layout():
    tensors = weights()
    backwards = dict(reversed(tensors.items()))
    backwards["layer.weight"] = tensors["layer.weight"].t().contiguous().t()
    assert not backwards["layer.weight"].is_contiguous()
    assert digest(backwards) == digest(tensors)


@pytest.mark.parametrize(
    "change",
    [
        {"layer.weight": torch.zeros(3, 4)},
        {"layer.weight": weights()["layer.weight"].reshape(4, 3)},
        {"half": weights()["half"].float()},
        {"one_more": torch.tensor(0)},
    ],
)
def test_the_digest_depends_on_values_shapes_dtypes_and_names(change):
    assert digest({**weights(), **change}) != digest(weights())
    renamed = {name.upper(): tensor for name, tensor in weights().items()}
    assert digest(renamed) != digest(weights())


@pytest.fixture
def full_disk():
    """No file may grow beyond 20 kB, as on a disk that is nearly full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["weights", "state"])
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_a_checkpoint_error_and_leaves_nothing_half_written(run, kind):
    large = {"a": torch.ones(100_000)}
    with pytest.raises(CheckpointError, match="cannot be written: ") as error:
        if kind == "weights":
            save_weights(checkpoint_file(run, "cl", 1), large)
        else:
            save_state(run, 1, "cl", large)
    assert "\n" not in str(error.value)
    assert [path for path in run.path.rglob("*") if path.is_file()] == []
