"""Trained networks, read back from a run."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from alignctl.analysis.misfit import misfit
from alignctl.config import StudyConfig
from alignctl.config.validation import nearest
from alignctl.encoders import Network, empty_network
from alignctl.errors import CheckpointError, ConfigError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import load_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.runs.snapshots import load_snapshot

_OBJECTIVE_PREFIX = "objective."


def load_network(run: RunDirectory, objective: str, epoch: int, device: torch.device) -> Network:
    """One objective's network after one epoch, in float32 and evaluation mode."""
    weights = shared_weights(load_checkpoint(run, objective, epoch))
    network = fitted_network(run.config, weights, checkpoint_file(run, objective, epoch))
    channels_last = run.config.training.channels_last
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=memory_format).eval()  # type: ignore[call-overload,no-any-return]


def fitted_network(study: StudyConfig, weights: Mapping[str, Tensor], path: Path) -> Network:
    """The study's network with the weights of a file, in float32.

    CheckpointError names the file, the first tensor that does not fit, and what to change.
    """
    network = empty_network(study, precision="float32")
    fault = misfit(network.state_dict(), weights, study)
    if fault is not None:
        raise CheckpointError(f"{path}: does not fit the run's config: {fault}")
    network.load_state_dict(weights, assign=True)
    return network


def shared_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of encoder and projector, which all objectives have."""
    return {k: v for k, v in weights.items() if not k.startswith(_OBJECTIVE_PREFIX)}


def load_checkpoint(run: RunDirectory, objective: str, epoch: int) -> dict[str, Tensor]:
    """The weights of one objective after one epoch; CheckpointError unless they are as written.

    Of an adopted run nobody recorded what was written: they are read as they lie.
    """
    path = checkpoint_file(run, objective, epoch)
    if run.original is not None:
        return load_snapshot(path)
    recorded = Manifest.read(run.manifest_file).checkpoints.get(epoch, {})
    return load_weights(path, sha256=recorded.get(objective))


def refuse_unknown_layer(study: StudyConfig, representation: str) -> None:
    """Raise ConfigError, with the nearest match, unless it is `h`, `g` or one of the layers."""
    if representation in ("h", "g"):
        return
    network = empty_network(study)
    layers = [name for name, _ in network.named_modules() if name]
    if representation not in layers:
        outer = [name for name in layers if name.count(".") < 2]
        close = nearest(representation, layers)
        listed = ", ".join(["h", "g", *outer])
        raise ConfigError(
            f"--representation: '{representation}' is no layer{close} ({listed}, ...)"
        )
