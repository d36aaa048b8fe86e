"""What processes do with the objectives that exist for tests only."""

from typing import Any

import numpy as np
import recovery_workers
import torch
import torch.distributed as dist
import trial_objectives
from torch import nn

from alignctl.config import StudyConfig
from alignctl.encoders import build_network
from alignctl.engine.collectives import make_mesh, sum_in_place
from alignctl.engine.context import WorkerContext
from alignctl.objectives import ObjectiveContext, ViewBatch, build_objective
from alignctl.processes import ALONE, Processes
from alignctl.randomness import uniforms_float32
from alignctl.training.batch_norm import synchronise_batch_norm
from alignctl.training.trainer import TrainingJob, train

NUM_IMAGES = 16


def train_trial(context: WorkerContext, job: TrainingJob) -> Any:
    with trial_objectives.registered():
        return train(context, job)


def train_trial_until_killed(job: TrainingJob, change: int | None) -> None:
    with trial_objectives.registered():
        recovery_workers.train_until_killed(job, change)


def gradients(context: WorkerContext, study: StudyConfig) -> dict[str, Any]:
    """Of each trial objective, the part of the loss and the summed gradients, in float64."""
    mesh = make_mesh("cpu", 1, dist.get_world_size())
    with trial_objectives.registered():
        return {
            config.name: _gradients(study, config, mesh.peers)
            for config in study.objectives
            if config.name in trial_objectives.TRIALS
        }


def whole_gradients(study: StudyConfig) -> dict[str, Any]:
    """The same of one process that holds the whole batch."""
    return {
        config.name: _gradients(study, config, ALONE)
        for config in study.objectives
        if config.name in trial_objectives.TRIALS
    }


def _gradients(study: StudyConfig, config: Any, peers: Processes) -> dict[str, Any]:
    network = build_network(study)
    torch.manual_seed(0)
    context = ObjectiveContext(study.temperature, 3, study.projector.output_dim)
    objective = build_objective(config, network, context).double()
    network = network.double()
    for module in (network, objective):
        synchronise_batch_norm(module, peers)
    loss = objective(network, _share(study, peers))
    loss.backward()
    parameters: list[nn.Parameter] = [
        each for each in (*network.parameters(), *objective.parameters()) if each.grad is not None
    ]
    sum_in_place([each.grad for each in parameters if each.grad is not None], peers)
    return {
        "part": loss.item(),
        "gradient": np.concatenate([each.grad.numpy().ravel() for each in parameters]),  # type: ignore[union-attr]
    }


def _share(study: StudyConfig, peers: Processes) -> ViewBatch:
    """This process's images, whose mean and scale differ from those of the others."""
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(2, NUM_IMAGES, 3, 8, 8, generator=stream, dtype=torch.float64)
    images *= torch.linspace(0.5, 3, NUM_IMAGES).view(1, -1, 1, 1, 1)
    local = torch.randn(3, NUM_IMAGES, 3, 8, 8, generator=stream, dtype=torch.float64)
    ids = np.arange(NUM_IMAGES)
    draws = {
        purpose: torch.from_numpy(
            uniforms_float32(0, purpose, epoch=0, samples=ids, num_draws=count)
        )
        for purpose, count in study.batch_needs.uniforms.items()
    }

    def own(whole: torch.Tensor, dim: int = 0) -> torch.Tensor:
        return whole.chunk(peers.size, dim)[peers.rank]

    return ViewBatch(
        own(images, 1),
        own(torch.from_numpy(ids % 3)),
        own(torch.from_numpy(ids)),
        peers=peers,
        groups={"local": own(local, 1)},
        draws={purpose: own(drawn) for purpose, drawn in draws.items()},
    )
