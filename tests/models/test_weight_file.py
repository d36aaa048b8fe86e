import pickle

import pytest
import torch
from safetensors.torch import save_file

from alignctl.errors import CheckpointError, ConfigError
from alignctl.models.weight_file import WeightFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "theirs.pth"


@pytest.mark.parametrize(
    ("saved", "names"),
    [
        ({"conv1.weight": 1.0}, ["encoder.conv1.weight"]),
        ({"state_dict": {"module.encoder.a": 1.0, "module.projector.0.weight": 2.0}},
         ["encoder.a", "projector.0.weight"]),
    ],
)  # fmt: skip
def test_an_encoder_alone_and_a_whole_model_have_our_names(path, saved, names):
    def tensors(value):
        return {k: tensors(v) if isinstance(v, dict) else torch.tensor(v) for k, v in value.items()}

    torch.save(tensors(saved), path)
    source = WeightFile(path)
    assert sorted(source.load("theirs", 0)) == names


def test_a_file_is_one_model_at_epoch_0(path):
    source = WeightFile(path)
    assert (source.objectives, source.epochs("theirs"), source.where) == (
        ("theirs",), [], str(path),
    )  # fmt: skip
    path.touch()
    assert source.epochs("theirs") == [0]
    assert source.epochs("another") == []
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_file_has_a_config_once_one_is_given(path, make_study):
    with pytest.raises(ConfigError, match=r"theirs\.pth: a file of weights has no config"):
        _ = WeightFile(path).config
    assert WeightFile(path).with_config(make_study()).config == make_study()


def test_what_cannot_be_read_is_named_by_its_path_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError) as error:
        WeightFile(path).load("a", 0)
    assert str(error.value).startswith(f"{path}: cannot be read: ")
