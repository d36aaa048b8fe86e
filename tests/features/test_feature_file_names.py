"""How a file of features and a matrix in it are named."""

import io

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from alignctl.errors import ConfigError
from alignctl.features.feature_files import FORMATS, open_features

NUM_ROWS, NUM_COLUMNS = 23, 5
FLOATS = [torch.float16, torch.float32, torch.float64]


def test_a_key_chooses_among_several_matrices(save):
    arrays = {"one": np.zeros((2, 3)), "two:b": np.ones((2, 4))}
    text = save("A.npz", lambda path: np.savez(path, **arrays))
    assert open_features(f"{text}:one").num_columns == 3
    file = open_features(f"{text}:two:b")
    assert (file.num_columns, file.name) == (4, f"{text}:two:b")


def test_the_only_matrix_needs_no_key_and_is_named_all_the_same(save):
    arrays = {"labels": np.zeros(2), "x": np.zeros((2, 3)), "name": np.array([["a", "b"]])}
    text = save("A.npz", lambda path: np.savez(path, **arrays))
    assert open_features(text).name == f"{text}:x"
    text = save("A.npy", lambda path: np.save(path, np.zeros((2, 3))))
    assert open_features(text).name == text


def test_a_colon_is_part_of_a_file_that_exists(save):
    text = save("A:1.npy", lambda path: np.save(path, np.zeros((2, 3))))
    assert open_features(text).num_columns == 3
    text = save("B:1.npz", lambda path: np.savez(path, x=np.zeros((2, 3)), y=np.zeros((2, 4))))
    assert open_features(f"{text}:y").num_columns == 4
    longer = save("B:1.npz:y.npy", lambda path: np.save(path, np.zeros((2, 5))))
    assert open_features(longer).num_columns == 5


def test_the_home_folder_and_capital_suffixes_are_understood(save, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((2, 3)))
    save("A.NPZ", buffer.getvalue())
    assert open_features("~/A.NPZ:x").path == tmp_path / "A.NPZ"


def test_a_whole_number_may_be_the_key_of_a_tensor(save):
    text = save("A.pt", lambda path: torch.save({0: torch.ones(2, 3), 1: torch.ones(2, 4)}, path))
    assert open_features(f"{text}:1").rows(slice(None)).shape == (2, 4)


def test_a_missing_file_is_named_with_the_nearest_one_beside_it(save, tmp_path, refused):
    save("features.npz", lambda path: np.savez(path, x=np.zeros((2, 3))))
    wanted = tmp_path / "feature.npz"
    hint = f"{wanted}: there is no such file; did you mean 'features.npz'?"
    assert refused(str(wanted)) == refused(f"{wanted}:x") == hint
    assert refused(str(tmp_path / "no" / "Z.npy")).endswith("no/Z.npy: there is no such file")
    assert refused("") == ".: is a folder; want a file (" + ", ".join(sorted(FORMATS)) + ")"


def test_a_folder_is_no_file(tmp_path, refused):
    (tmp_path / "A.npy").mkdir()
    assert refused(str(tmp_path / "A.npy")).startswith(f"{tmp_path / 'A.npy'}: is a folder; want")


def test_an_unknown_suffix_is_refused_with_those_there_are(save, refused):
    text = save("A.npx", b"")
    assert refused(text) == (
        f"{text}: '.npx' is not a kind of feature file; did you mean '.npz'? "
        "(.arrow, .csv, .feather, .mat, .npy, .npz, .parquet, .pt, .pth, .safetensors, .tsv); "
        f"numpy.save('{text.removesuffix('x')}y', array) makes a file that is read"
    )


def test_a_wrong_key_is_refused_with_the_nearest_and_all_there_are(save, refused):
    arrays = {"features": np.zeros((2, 3)), "labels": np.zeros(2)}
    text = save("A.npz", lambda path: np.savez(path, **arrays))
    said = f"{text}: 'fetures' is not a key; did you mean 'features'? (features, labels)"
    assert refused(f"{text}:fetures") == said
    assert refused(f"{text}:") == f"{text}: '' is not a key (features, labels)"


def test_of_many_keys_a_dozen_are_listed(save, refused):
    tensors = {f"layer_{number:02}": torch.zeros(2, 3) for number in range(40)}
    text = save("A.safetensors", lambda path: save_file(tensors, path))
    said = refused(text)
    assert said.startswith(f"{text}: holds 40 matrices; name one as {text}:KEY (layer_00, ")
    assert said.endswith("layer_11 and 28 more)")


def test_a_key_for_a_single_matrix_is_refused(save, refused):
    text = save("A.npy", lambda path: np.save(path, np.zeros((2, 3))))
    assert refused(f"{text}:x") == f"{text}: holds one matrix and takes no key, not 'x'"


@pytest.mark.parametrize("text", ["A" * 400 + ".npy", "A\0.npy", "~nobody-of-that-name/A.npy"])
def test_an_impossible_path_is_refused(text):
    with pytest.raises(ConfigError):
        open_features(text)
