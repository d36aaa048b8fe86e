"""Snapshots of the study's original code as tensors by our names.

A snapshot is a dict with MODEL_STATE, EPOCHS_RUN, OPTIMIZER and SCHEDULER; only MODEL_STATE is of
use here. Its encoder has torchvision's names behind `encoder.net.`, as ours has behind `encoder.`.
"""

import contextlib
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignctl.errors import CheckpointError
from alignctl.models.weights import ENCODER, OBJECTIVE, PROJECTOR, renamed, without_wrappers

_STATE = "MODEL_STATE"
_ZIP_STARTS = b"PK\x03\x04"
_CUT_SHORT = "is damaged (cut short)"
_AROUND = "simclr_model."  # around encoder and projector, in the model of `ce`
_OURS = {
    "encoder.net.": ENCODER,
    "projector.projector.": PROJECTOR,
    "classifier.": f"{OBJECTIVE}classifier.",
}
# torchvision's own classifiers, where they were not taken off: nothing here reads their output.
_LEFT_OUT = ("encoder.net.fc.", "encoder.net.heads.")


def load_snapshot(path: Path) -> dict[str, Tensor]:
    """The weights in a snapshot by our names, floating-point ones in float32, on the CPU.

    Nothing in the file is executed. CheckpointError where it cannot be read or holds another model.
    """
    weights = {}
    for name, value in _model_state(path).items():
        ours = our_name(name)
        if ours is None or not isinstance(value, Tensor):
            what = "no tensor" if ours else "no part of such a model"
            raise CheckpointError(
                f"{path}: {_STATE}: '{name}' is {what}; it has to hold tensors "
                "encoder.net.* and projector.projector.*"
            )
        if ours:
            dtype = torch.float32 if value.is_floating_point() else value.dtype
            # a copy: what is read stays what it was, whatever becomes of the file
            weights[ours] = value.to(dtype, copy=True)
    for prefix, theirs in ((ENCODER, "encoder.net.*"), (PROJECTOR, "projector.projector.*")):
        if not any(name.startswith(prefix) for name in weights):
            raise CheckpointError(f"{path}: {_STATE}: holds no tensor {theirs}")
    return weights


def our_name(name: str) -> str | None:
    """What one of its tensors is called here; empty where it is of no use, None if unknown."""
    bare = without_wrappers(name, _AROUND)
    return "" if bare.startswith(_LEFT_OUT) else renamed(bare, _OURS)


def damage(path: Path) -> str | None:
    """What is wrong with a snapshot by the checksums (CRC-32) inside it; None where they fit.

    CheckpointError where it has none: files of before torch 1.6.
    """
    try:
        if _is_cut_short(path):
            return _CUT_SHORT
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: has no checksums")
        with zipfile.ZipFile(path) as archive:
            spoilt = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        return f"cannot be read ({error})"
    return None if spoilt is None else f"is not as it was written ({spoilt})"


def _is_cut_short(path: Path) -> bool:
    """Whether it begins as a zip file does, as far as it goes, and lacks the end of one."""
    with path.open("rb") as file:
        begins = _ZIP_STARTS.startswith(file.read(len(_ZIP_STARTS)))
    return begins and not zipfile.is_zipfile(path)


def _model_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: is missing")
    try:
        cut_short = _is_cut_short(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if cut_short:
        raise CheckpointError(f"{path}: {_CUT_SHORT}")
    try:
        with _numpy_numbers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says what pickles it would rather read
            # Mapped, only what is used is read: a snapshot's optimiser is larger than its weights.
            mapped = zipfile.is_zipfile(path)
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # what a damaged pickle raises has no limits
        raise CheckpointError(f"{path}: {_reason(error)}") from error
    state = found.get(_STATE) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        held = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(f"{path}: holds no {_STATE} (but {held or 'nothing'})")
    return state


def _numpy_numbers() -> contextlib.AbstractContextManager[None]:
    """Lets numbers of numpy through, such as learning rates in SCHEDULER; torch alone does not."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        return contextlib.nullcontext()  # such files are refused with that reason
    scalar: Any = np.float64(0).__reduce__()[0]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    kinds = {type(np.dtype(code)) for code in "efdbhilqBHILQ?"}
    allowed: Any = [*((scalar, name) for name in names), np.dtype, *kinds]
    return torch.serialization.safe_globals(allowed)


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in one line."""
    refused = re.search(r"Unsupported (?:global|class).*?([\w.]+\.\w+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"holds {refused[1]}, which reading would have to execute; "
            f"save it anew with {_STATE} alone"
        )
    refused = re.search(r"WeightsUnpickler error: *(.+)", str(error))
    detail = refused[1] if refused else str(error).partition("\n")[0] or type(error).__name__
    return f"cannot be read, damaged or no snapshot: {detail}"
