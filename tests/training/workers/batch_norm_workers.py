"""Workers for the tests of batch norm over processes, in a module that processes can import.

The same functions give one process the whole batch and each of several its share.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from alignctl.config import StudyConfig
from alignctl.encoders import build_network
from alignctl.engine.collectives import ProcessPeers, make_mesh, sum_in_place
from alignctl.engine.context import WorkerContext
from alignctl.objectives import (
    Objective,
    ObjectiveContext,
    ViewBatch,
    build_objective,
)
from alignctl.processes import ALONE, Processes
from alignctl.runs.checkpoints import digest
from alignctl.training.batch_norm import SynchronisedBatchNorm, synchronise_batch_norm

NUM_CLASSES = 3
NUM_IMAGES = 16
NUM_STEPS = 3
CHANNELS = 5
OBJECTIVES = ("cl", "dcl", "nscl", "scl", "ce")


@dataclass(frozen=True)
class LayerCase:
    """One batch norm, and the values (N, C, ...) that it sees."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    channels_last: bool = False
    frozen_bias: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def layer(self) -> nn.BatchNorm1d | nn.BatchNorm2d:
        """torch's own, with weights that differ per channel."""
        kind = nn.BatchNorm2d if len(self.shape) == 4 else nn.BatchNorm1d
        layer = kind(CHANNELS, **self.options)
        if layer.affine:
            with torch.no_grad():
                layer.weight.copy_(torch.linspace(-1, 2, CHANNELS))
                layer.bias.copy_(torch.linspace(3, -1, CHANNELS))
            layer.bias.requires_grad_(not self.frozen_bias)
        return layer.to(torch.promote_types(self.dtype, torch.float32))

    def values(self, seed: int) -> Tensor:
        values = uneven(self.shape, seed).to(self.dtype)
        return values.to(memory_format=torch.channels_last) if self.channels_last else values


CASES = (
    LayerCase("2d, float64", (8, CHANNELS, 3, 2)),
    LayerCase("2d, float32", (8, CHANNELS, 6, 4), torch.float32),
    LayerCase("2d, float32, channels last", (8, CHANNELS, 6, 4), torch.float32, True),
    LayerCase("2d, bfloat16", (8, CHANNELS, 6, 4), torch.bfloat16),
    LayerCase("2d, bfloat16, channels last", (8, CHANNELS, 6, 4), torch.bfloat16, True),
    LayerCase("1d, float64, frozen bias", (8, CHANNELS), frozen_bias=True),
    LayerCase("1d, float32, frozen bias", (64, CHANNELS), torch.float32, frozen_bias=True),
    LayerCase("1d, (N, C, L)", (8, CHANNELS, 7)),
    LayerCase("mean of all batches", (8, CHANNELS), options={"momentum": None}),
    LayerCase("eps and momentum", (8, CHANNELS), options={"momentum": 0.6, "eps": 0.5}),
    LayerCase("no weights", (8, CHANNELS, 3, 2), options={"affine": False}),
    LayerCase("nothing tracked", (8, CHANNELS), options={"track_running_stats": False}),
    LayerCase("one value each", (4, CHANNELS)),
)


@dataclass(frozen=True)
class Share:
    """Which part of a batch a process holds, and with whom."""

    peers: Processes

    def of(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This process's part along `dim`, in the memory format of the whole."""
        return whole.chunk(self.peers.size, dim)[self.peers.rank]


WHOLE = Share(ALONE)


def uneven(shape: tuple[int, ...], seed: int, dim: int = 0) -> Tensor:
    """Random float64 whose four quarters along `dim` differ in mean and scale."""
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    quarters = zip(values.chunk(4, dim), (1.0, 5.0, 0.5, 2.0), (0.0, 3.0, -2.0, 1.0), strict=True)
    return torch.cat([quarter * scale + shift for quarter, scale, shift in quarters], dim)


def plain(tensor: Tensor | None) -> np.ndarray | None:
    """The values in float64, which holds those of every other dtype here."""
    return None if tensor is None else tensor.detach().double().numpy()


def run_layer(case: LayerCase, layer: nn.Module, share: Share) -> dict[str, Any]:
    """What a layer gives in its second training step, and in evaluation after it."""
    for step in (0, 1):
        values = share.of(case.values(step)).requires_grad_()
        output = layer(values)
        assert output.dtype == values.dtype and output.stride() == values.stride()
        layer.zero_grad()
        output.backward(share.of(case.values(step + 2)))
        assert values.grad is not None and values.grad.stride() == values.stride()
    layer.eval()
    parameters = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {
        "by_share": {
            "output": plain(output),
            "of_values": plain(values.grad),
            "evaluated": plain(layer(values)),
        },
        "summed": {name: plain(gradient) for name, gradient in parameters.items()},
        "same": {name: plain(buffer) for name, buffer in layer.named_buffers()},
    }


@dataclass(frozen=True)
class Model:
    """A network and an objective, as at the start of training."""

    network: nn.Module
    objective: Objective

    def parameters(self) -> list[nn.Parameter]:
        both = [*self.network.parameters(), *self.objective.parameters()]
        return [parameter for parameter in both if parameter.requires_grad]


def build(study: StudyConfig, name: str, dtype: torch.dtype, peers: Processes) -> Model:
    config = next(config for config in study.objectives if config.name == name)
    context = ObjectiveContext(study.temperature, NUM_CLASSES, study.projector.output_dim)
    torch.manual_seed(0)
    network = build_network(study).to(dtype)
    model = Model(network, build_objective(config, network, context).to(dtype))
    synchronise_batch_norm(model.network, peers)
    synchronise_batch_norm(model.objective, peers)
    return model


def view_batch(dtype: torch.dtype, seed: int, share: Share) -> ViewBatch:
    images = uneven((2, NUM_IMAGES, 3, 8, 8), seed, dim=1).to(dtype)
    ids = torch.arange(NUM_IMAGES)
    labels = (ids * 7 + seed) % NUM_CLASSES
    return ViewBatch(share.of(images, 1), share.of(labels), share.of(ids), peers=share.peers)


def gradients(study: StudyConfig, name: str, dtype: torch.dtype, share: Share) -> dict[str, Any]:
    """This process's part of the loss, and the gradient of the whole loss by parameter."""
    model = build(study, name, dtype, share.peers)
    part = model.objective(model.network, view_batch(dtype, 0, share))
    part.backward()
    found = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in found)
    sum_in_place(found, share.peers)
    return {"part": part.item(), "gradients": [plain(gradient) for gradient in found]}


def train(study: StudyConfig, name: str, dtype: torch.dtype, share: Share) -> dict[str, Any]:
    """Weights and running statistics after some steps of gradient descent, and their digest."""
    model = build(study, name, dtype, share.peers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(NUM_STEPS):
        optimizer.zero_grad()
        model.objective(model.network, view_batch(dtype, step, share)).backward()
        sum_in_place([parameter.grad for parameter in model.parameters()], share.peers)
        optimizer.step()
    state = {**model.network.state_dict(), **model.objective.state_dict()}
    return {"digest": digest(state), "state": [plain(tensor) for tensor in state.values()]}


def compute(context: WorkerContext, study: StudyConfig) -> dict[str, Any]:
    """Everything above, of this process's share."""
    assert dist.group.WORLD is not None
    world = Share(ProcessPeers(dist.group.WORLD))
    layers = {}
    for case in CASES:
        if case.shape[0] >= world.peers.size:
            layer = SynchronisedBatchNorm(copy.deepcopy(case.layer()), world.peers)
            layers[case.name] = run_layer(case, layer, world)
    mesh = make_mesh("cpu", 1, context.size)
    return {"layers": layers, "models": models(study, Share(mesh.peers))}


def models(study: StudyConfig, share: Share) -> dict[str, Any]:
    """Gradients by (objective, dtype), and trained models by dtype."""
    dtypes = (torch.float64, torch.float32)
    return {
        "gradients": {
            (name, dtype): gradients(study, name, dtype, share)
            for name in OBJECTIVES
            for dtype in dtypes
        },
        "trained": {dtype: train(study, "scl", dtype, share) for dtype in dtypes},
    }
