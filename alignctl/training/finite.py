"""NaNs and infinities: reported with objective and step, and never saved."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alignctl.errors import TrainingError
from alignctl.runs import RunDirectory
from alignctl.runs.checkpoints import load_weights
from alignctl.runs.directory import checkpoint_file

_NEW_RUN = "start a new run with a smaller training.optimizer.learning_rate"


def not_finite(state: Mapping[str, Any], *, known: frozenset[str] = frozenset()) -> list[str]:
    """The tensors of a state, nested or not, that hold a NaN or an infinity, as `network.weight`.

    known: names of tensors that may hold infinities, but no NaN.
    """
    return [
        name
        for name, tensor in _tensors(state)
        if tensor.is_floating_point()
        and not (~tensor.isnan() if name in known else tensor.isfinite()).all()
    ]


def infinite_buffers(modules: Mapping[str, nn.Module]) -> frozenset[str]:
    """The buffers of modules, by the names that `not_finite` gives them, that hold infinities."""
    return frozenset(
        f"{key}.{name}"
        for key, module in modules.items()
        for name, buffer in module.named_buffers()
        if buffer.is_floating_point() and buffer.isinf().any()
    )


def place(step: int, *, steps_per_epoch: int) -> str:
    """`epoch 2, step 3`, both from 1, of a number of steps over all epochs, from 1."""
    epoch, within = divmod(step - 1, steps_per_epoch)
    return f"epoch {epoch + 1}, step {within + 1}"


def advice(saved_step: int | None, *, steps_per_epoch: int) -> str:
    """What is saved of a run that cannot go on, and what to do."""
    if saved_step is None:
        return f"nothing is saved; {_NEW_RUN}"
    kept = "the initial state"
    if saved_step:
        kept = f"the state after {place(saved_step, steps_per_epoch=steps_per_epoch)}"
    return f"{kept} stays saved, but resuming would fail in the same way: {_NEW_RUN}"


def refuse_not_finite(
    parts: Sequence[Mapping[str, Sequence[str]]],
    *,
    step: int,
    saved_step: int | None,
    steps_per_epoch: int,
) -> None:
    """TrainingError where an objective's state after so many steps is not finite.

    parts: the tensors that are not finite, by objective, from each process.
    """
    for name, tensors in ((name, found) for part in parts for name, found in part.items()):
        if not tensors:
            continue
        what = f"objective '{name}': {in_words(tensors)}"
        if step == 0:
            raise TrainingError(f"{what} before the first step; see encoder.weights")
        here = place(step, steps_per_epoch=steps_per_epoch)
        raise TrainingError(
            f"{what} after {here}, though no loss was until then; "
            f"{advice(saved_step, steps_per_epoch=steps_per_epoch)}"
        )


def refuse_finished(run: RunDirectory) -> None:
    """TrainingError where the weights of a finished run are not finite, as an earlier version's."""
    epoch = run.config.training.epochs
    for name in run.config.objective_names:
        path = checkpoint_file(run, name, epoch)
        tensors = not_finite(load_weights(path)) if path.is_file() else []
        # bounds of some encoders are infinite from the beginning
        first = checkpoint_file(run, name, 0)
        if tensors and first.is_file():
            initial = set(not_finite(load_weights(first)))
            tensors = [each for each in tensors if each not in initial]
        if tensors:
            raise TrainingError(f"{path}: {in_words(tensors)}, though it is finished; {_NEW_RUN}")


def in_words(tensors: Sequence[str]) -> str:
    """`network.encoder.conv.weight and 3 more tensors are not finite`, of at least one name."""
    if len(tensors) == 1:
        return f"{tensors[0]} is not finite"
    more = len(tensors) - 1
    return f"{tensors[0]} and {more} more tensor{'s' if more > 1 else ''} are not finite"


def _tensors(values: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(values, torch.Tensor):
        yield prefix.removesuffix("."), values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _tensors(value, f"{prefix}{key}.")
