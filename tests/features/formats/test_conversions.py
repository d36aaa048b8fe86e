import numpy as np
import pytest

from alignctl.errors import ConfigError
from alignctl.features.feature_files import open_features
from alignctl.features.formats import FORMATS

SUFFIXES = [".h5", ".hdf5", ".pkl", ".pickle", ".joblib", ".txt", ".dat", ".json", ".jsonl",
            ".xls", ".xlsx"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines_for(path):
    with pytest.raises(ConfigError) as error:
        open_features(str(path))
    said, *lines = str(error.value).split("\n")
    assert said == (
        f"{path}: a {path.suffix.lower()} file, which is not read here; "
        "two lines of Python convert it:"
    )
    assert all(line.startswith("    ") for line in lines)
    return [line.strip() for line in lines]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_read_is_refused_with_the_two_lines_that_convert_it(suffix, tmp_path):
    assert suffix not in FORMATS
    path = tmp_path / f"it's A{suffix}"
    path.touch()
    lines = lines_for(path)
    assert len(lines) == 2
    compile("\n".join(lines), "lines", "exec")
    assert repr(str(path.with_suffix(".npy"))) in lines[1]


@pytest.mark.parametrize("suffix", [".txt", ".json", ".pkl"])
def test_the_two_lines_make_a_file_that_is_read(suffix, tmp_path):
    matrix = np.arange(6.0).reshape(3, 2)
    path = tmp_path / f"A{suffix}"
    if suffix == ".txt":
        np.savetxt(path, matrix)
    elif suffix == ".json":
        path.write_text(str(matrix.tolist()))
    else:
        matrix.dump(path)
    exec("\n".join(lines_for(path)), {})
    assert (
        open_features(str(path.with_suffix(".npy"))).rows(slice(None)).tolist() == matrix.tolist()
    )
