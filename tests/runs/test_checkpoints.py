import hashlib
import sys
from pathlib import Path

import pytest
import torch

# Started processes get our sys.path, and so find what they are to run.
sys.path.insert(0, str(Path(__file__).parents[1] / "workers"))

from alignctl.errors import CheckpointError
from alignctl.runs import RunDirectory
from alignctl.runs.checkpoints import digest, file_digest, load_weights, save_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs
from alignctl.runs.states import state_folder


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


def test_a_checkpoint_other_than_the_one_written_is_named(run):
    path = checkpoint_file(run, "cl", 1)
    written = save_weights(path, weights())
    assert written == file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest(load_weights(path, sha256=written)) == digest(weights())
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1  # a bit of a weight: the file can still be read
    path.write_bytes(changed)
    assert digest(load_weights(path)) != digest(weights())
    message = r"epoch_0001\.safetensors: damaged: it is not the file that was written"
    with pytest.raises(CheckpointError, match=message):
        load_weights(path, sha256=written)


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


def test_a_full_disk_is_a_checkpoint_error_and_leaves_nothing_half_written(run, pool):
    """In a process of its own no file may grow beyond 20 kB: here that would be the log as well."""
    pytest.importorskip("resource")
    from checkpoint_workers import save_on_a_full_disk

    (refused,) = pool.launch(save_on_a_full_disk, run.path, size=1)
    weights, state = refused
    assert weights.startswith(f"{checkpoint_file(run, 'cl', 1)}: cannot be written: ")
    assert state.startswith(f"{state_folder(run, 1) / 'cl.pt'}: cannot be written: ")
    assert [path for path in run.path.rglob("*") if path.is_file()] == []
