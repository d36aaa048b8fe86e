"""Trained networks, read back from a run."""

import torch
from torch import Tensor

from alignctl.config.validation import nearest
from alignctl.encoders import Network, build_network
from alignctl.errors import CheckpointError, ConfigError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import load_weights
from alignctl.runs.directory import checkpoint_file, saved_epochs

_OBJECTIVE_PREFIX = "objective."


def load_network(run: RunDirectory, objective: str, epoch: int, device: torch.device) -> Network:
    """One objective's network after one epoch, in float32 and evaluation mode."""
    weights = load_checkpoint(run, objective, epoch)
    with torch.device("meta"):  # no initial weights: they would be replaced at once
        network = build_network(run.config, precision="float32")
    shared = {k: v for k, v in weights.items() if not k.startswith(_OBJECTIVE_PREFIX)}
    try:
        network.load_state_dict(shared, assign=True)
    except RuntimeError as error:
        path = checkpoint_file(run, objective, epoch)
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise CheckpointError(
            f"{path}: does not fit the run's config: {reason[0].strip()}"
        ) from error
    channels_last = run.config.training.channels_last
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=memory_format).eval()  # type: ignore[call-overload,no-any-return]


def load_checkpoint(run: RunDirectory, objective: str, epoch: int) -> dict[str, Tensor]:
    """The weights of one objective after one epoch; CheckpointError unless they are as written."""
    recorded = Manifest.read(run.manifest_file).checkpoints.get(epoch, {})
    return load_weights(checkpoint_file(run, objective, epoch), sha256=recorded.get(objective))


def refuse_unknown_layer(run: RunDirectory, representation: str) -> None:
    """Raise ConfigError, with the nearest match, unless it is `h`, `g` or one of the layers."""
    if representation in ("h", "g"):
        return
    with torch.device("meta"):
        network = build_network(run.config, precision="float32")
    layers = [name for name, _ in network.named_modules() if name]
    if representation not in layers:
        outer = [name for name in layers if name.count(".") < 2]
        close = nearest(representation, layers)
        listed = ", ".join(["h", "g", *outer])
        raise ConfigError(
            f"--representation: '{representation}' is no layer{close} ({listed}, ...)"
        )


def common_epochs(run: RunDirectory, objectives: tuple[str, ...]) -> list[int]:
    """Epochs for which the weights of all these objectives are there, ascending."""
    epochs = [set(saved_epochs(run, name)) for name in objectives]
    return sorted(set.intersection(*epochs))
