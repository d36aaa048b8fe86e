"""The two lines of Python that turn a file that is not read here into a .npy file."""

from pathlib import Path

from alignctl.errors import ConfigError

_LINES = {
    "hdf5": ("import h5py, numpy", "numpy.save({npy!r}, h5py.File({path!r})['KEY'][:])"),
    "mat73": ("import h5py, numpy", "numpy.save({npy!r}, h5py.File({path!r})['KEY'][:].T)"),
    "pickle": (
        "import numpy, pathlib, pickle  # reading a pickle runs the code in it",
        "numpy.save({npy!r}, pickle.loads(pathlib.Path({path!r}).read_bytes()))",
    ),
    "joblib": (
        "import joblib, numpy  # reading such a file runs the code in it",
        "numpy.save({npy!r}, joblib.load({path!r}))",
    ),
    "pairs": (
        "import numpy, torch",
        "numpy.save({npy!r}, torch.cat([entry[0] for entry in torch.load({path!r})]).numpy())",
    ),
    "dicts": (
        "import numpy, torch",
        "numpy.save({npy!r}, torch.cat([entry['KEY'] for entry in torch.load({path!r})]).numpy())",
    ),
    "vectors": (
        "import numpy, torch",
        "numpy.save({npy!r}, torch.stack(list(torch.load({path!r}))).numpy())",
    ),
    "text": ("import numpy", "numpy.save({npy!r}, numpy.loadtxt({path!r}))"),
    "json": (
        "import json, numpy, pathlib",
        "numpy.save({npy!r}, json.loads(pathlib.Path({path!r}).read_text()))",
    ),
    "jsonl": (
        "import numpy, pandas",
        "numpy.save({npy!r}, pandas.read_json({path!r}, lines=True).to_numpy())",
    ),
    "excel": (
        "import numpy, pandas",
        "numpy.save({npy!r}, pandas.read_excel({path!r}).to_numpy())",
    ),
}
_KINDS = {
    ".h5": "hdf5", ".hdf5": "hdf5", ".hdf": "hdf5", ".he5": "hdf5",
    ".pkl": "pickle", ".pickle": "pickle", ".joblib": "joblib",
    ".txt": "text", ".dat": "text", ".json": "json", ".jsonl": "jsonl",
    ".xls": "excel", ".xlsx": "excel",
}  # fmt: skip


def kind_of(path: Path) -> str | None:
    """The kind of a file that is known not to be read, by its suffix; None of any other."""
    return _KINDS.get(path.suffix.lower())


def converted_by(path: Path, kind: str, what: str) -> ConfigError:
    """The error that says what a file is, and shows how to convert it."""
    names = {"path": str(path), "npy": str(path.with_suffix(".npy"))}
    lines = "".join(f"\n    {line.format(**names)}" for line in _LINES[kind])
    return ConfigError(
        f"{path}: {what}, which is not read here; two lines of Python convert it:{lines}"
    )
