"""Features on disk, for one evaluation or kept: every process writes its rows."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alignctl.engine.context import WorkerContext
from alignctl.errors import AlignctlError
from alignctl.features.feature_files import FeatureFile, open_features
from alignctl.metrics.feature_space import share_in_chunks
from alignctl.runs.atomic import write_text
from alignctl.runs.checkpoints import file_digest

_ABOUT = "features.json"
SCHEMA_VERSION = 1

Compute = Callable[[slice, Sequence[int]], Iterable[Sequence[Sequence[Tensor]]]]
"""Of some rows, and the numbers of some representations: piece by piece, rows in order, for each
model its features (n, d) by representation."""


@contextmanager
def stored_features(
    context: WorkerContext,
    folders: Sequence[Path],
    checkpoints: Mapping[str, Path],
    *,
    num_images: int,
    compute: Compute,
    keep: bool,
    owner: int | None = None,
) -> Iterator[list[list[FeatureFile]]]:
    """In each folder one .npy file (num_images, d) float32 per checkpoint, named like its model.

    folders: one for each representation. checkpoints: the files, by the model's name. compute: the
    features of some rows, in those representations that are not there. Kept files are used again
    while the checkpoints are the same; without `keep`, what was not there before is gone
    afterwards. After an error it stays for `drop_passing`: others may still read it, and would tell
    that it is gone instead of what is wrong.
    owner: the process that will call that, the same for all of an evaluation and another for other
    evaluations; the parent of this one if None.
    """
    names = [f"{name}.npy" for name in checkpoints]
    known = [_read(folder / _ABOUT) for folder in folders]
    about = _about(checkpoints, num_images) if any(known) or keep else {}  # files may be large
    whole = [
        _holds(said, about, [folder / name for name in names])
        for folder, said in zip(folders, known, strict=True)
    ]
    # An agreement of all processes, for files may be removed while others look.
    there = [all(each) for each in zip(*context.gather(whole), strict=True)]
    missing = [index for index, is_there in enumerate(there) if not is_there]
    places = list(folders)
    if not keep:
        places = [
            folder if is_there else _passing(folder, owner or os.getppid())
            for folder, is_there in zip(folders, there, strict=True)
        ]
    files = [[place / name for name in names] for place in places]
    if missing:
        _write(context, {index: files[index] for index in missing}, num_images, compute)
    if context.is_first and keep:
        for index in missing:
            write_text(folders[index] / _ABOUT, json.dumps(about, indent=2) + "\n")
    yield [[open_features(str(file)) for file in of_folder] for of_folder in files]
    if missing and not keep:
        context.wait()  # all have read what the first process removes
        if context.is_first:
            for index in missing:
                _remove(places[index])


def drop_passing(features: Path, owner: int) -> None:
    """Remove what an evaluation that failed, or was killed, left under a run's folder of features.

    owner: as `stored_features` was told, whose processes have ended.
    """
    for folder in features.glob(f"*/{_passing(Path('*'), owner)}"):
        _remove(folder)


def _passing(folder: Path, owner: int) -> Path:
    """Where features lie that are not kept, until they are removed, by `owner` at the latest."""
    return folder.with_name(f".{folder.name}.{owner}")


def are_kept(folder: Path) -> bool:
    """Whether features were kept in this folder, of whichever checkpoints."""
    return (folder / _ABOUT).is_file()


def _about(checkpoints: Mapping[str, Path], num_images: int) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "num_images": num_images,
        "checkpoints": {name: file_digest(path) for name, path in checkpoints.items()},
    }


def _read(path: Path) -> Any:
    """The description of kept features; None where there is none, or it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _holds(known: Any, about: dict[str, Any], files: Sequence[Path]) -> bool:
    """Whether the kept features are of exactly these checkpoints."""
    if not known:
        return False
    try:
        wanted = about["checkpoints"].items()
        return (
            known["schema_version"] == SCHEMA_VERSION
            and known["num_images"] == about["num_images"]
            and all(known["checkpoints"].get(name) == digest for name, digest in wanted)
            and all(open_features(str(file)).num_rows == about["num_images"] for file in files)
        )
    except (OSError, ValueError, KeyError, TypeError, AlignctlError):
        return False


def _write(
    context: WorkerContext,
    files: Mapping[int, Sequence[Path]],
    num_images: int,
    compute: Compute,
) -> None:
    """Every process writes its rows at their place in the files that the first one makes.

    files: of each checkpoint, by the number of the representation.
    """
    made, wanted = False, list(files)
    for part in share_in_chunks(num_images, context):
        first = part.start
        for found in compute(part, wanted):
            by_layer = [
                [matrix.float().cpu().numpy() for matrix in of_layer]
                for of_layer in zip(*found, strict=True)
            ]
            if not made:
                if context.is_first:
                    for paths, matrices in zip(files.values(), by_layer, strict=True):
                        dims = [matrix.shape[1] for matrix in matrices]
                        _make(paths[0].parent, paths, num_images, dims)
                context.wait()
                made = True
            for paths, matrices in zip(files.values(), by_layer, strict=True):
                for path, matrix in zip(paths, matrices, strict=True):
                    _write_rows(path, first, matrix)
            first += len(by_layer[0][0])
    context.wait()


def _make(folder: Path, files: Sequence[Path], num_rows: int, dims: Sequence[int]) -> None:
    """Empty matrices of the right size; the description of older ones goes first."""
    with _named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _ABOUT).unlink(missing_ok=True)
        for path, dim in zip(files, dims, strict=True):
            header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, dim)}
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + num_rows * dim * 4)


def _write_rows(path: Path, first: int, matrix: NDArray[np.float32]) -> None:
    # By write, not through a memory map: a full disk is then an error and not a crash.
    with _named_errors(path), path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(first * matrix.shape[1] * 4, os.SEEK_CUR)
        file.write(np.ascontiguousarray(matrix, dtype="<f4").data)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AlignctlError(f"{path}: cannot be written: {error.strerror or error}") from error


def _remove(folder: Path) -> None:
    """The folder, and those around it where nothing else was kept."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty
        folder.parent.rmdir()
        folder.parent.parent.rmdir()
