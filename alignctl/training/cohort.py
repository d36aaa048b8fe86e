"""The models of one process, one for each objective, trained in lock step on the same views."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from alignctl.config import StudyConfig
from alignctl.config.objective_configs import ObjectiveConfig
from alignctl.encoders import Network, build_network
from alignctl.engine.collectives import ONE_PROCESS, Mesh, sum_in_place
from alignctl.models.weights import whole_model
from alignctl.objectives import (
    Objective,
    ObjectiveContext,
    ParameterGroup,
    StepProgress,
    ViewBatch,
    build_objective,
)
from alignctl.objectives.objective import ONLY_STEP
from alignctl.processes import ALONE, Processes
from alignctl.randomness import derive_seed
from alignctl.training.batch_norm import synchronise_batch_norm
from alignctl.training.finite import infinite_buffers, not_finite
from alignctl.training.optimizers import build_optimizer


@dataclass(frozen=True)
class Member:
    """One objective with its network and optimiser."""

    name: str
    network: Network
    objective: Objective
    optimizer: Optimizer
    peers: Processes = ALONE
    """The processes that train this very model, each on its share of every batch."""
    infinite: frozenset[str] = frozenset()
    """Buffers that hold infinities from the beginning, such as bounds."""
    own_groups: tuple[ParameterGroup, ...] = ()
    """Of the objective; the optimiser has them behind the group of all other parameters."""

    def weights(self) -> dict[str, Tensor]:
        """What a checkpoint holds: encoder, projector, and what the objective exports, by name."""
        return whole_model(self.network.state_dict(), self.objective.exported())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of network and objective, by name."""
        return whole_model(self.network.state_dict(), self.objective.state_dict())

    def state(self) -> dict[str, Any]:
        """Everything that training needs to go on."""
        return {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])

    def not_finite(self) -> list[str]:
        """The tensors of `state` that hold a NaN or an infinity; waits for the device."""
        return not_finite(self.state(), known=self.infinite)

    @torch.no_grad()
    def has_finite_output(self, height: int, width: int) -> bool:
        """Whether the network's representations of an image are finite in evaluation mode.

        Weights that are finite may be so large that products of them are not.
        """
        like = next(self.network.parameters())
        image = torch.linspace(-1, 1, 3 * height * width, device=like.device, dtype=like.dtype)
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        try:
            found = self.network(image.view(1, 3, height, width))
        finally:
            for module, training in modes.items():
                module.training = training
        return bool(found.h.isfinite().all() and found.g.isfinite().all())

    def step(
        self,
        batch: ViewBatch,
        *,
        learning_rate: float,
        clip_norm: float | None,
        progress: StepProgress = ONLY_STEP,
    ) -> Tensor:
        """Take one step and return the loss before it, 0-d, still on the device.

        With peers, this process's part of the loss; all of them take the same step.
        """
        first, *others = self.optimizer.param_groups
        first["lr"] = learning_rate
        for group, own in zip(others, self.own_groups, strict=True):
            group["lr"] = learning_rate * own.learning_rate_factor(progress)
        loss: Tensor = self.objective(self.network, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        sum_in_place([p.grad for p in parameters if p.grad is not None], self.peers)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.objective.before_optimizer_step(self.network, progress)
        self.optimizer.step()
        self.objective.after_step(self.network, progress)
        return loss.detach()


def build_member(
    study: StudyConfig,
    config: ObjectiveConfig,
    *,
    num_classes: int,
    device: torch.device,
    mesh: Mesh = ONE_PROCESS,
) -> Member:
    """A model at its initial weights, which are the same for every objective of the study.

    mesh: this process's place; the peers in it hold the other shares of every batch.
    """
    context = ObjectiveContext(
        temperature=study.temperature,
        num_classes=num_classes,
        projection_dim=study.projector.output_dim,
    )
    network = build_network(study).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, f"objective {config.name}"))
        objective = build_objective(config, network, context)
    objective = objective.to(device)
    synchronise_batch_norm(network, mesh.peers)
    synchronise_batch_norm(objective, mesh.peers)
    own_groups = tuple(objective.parameter_groups())
    grouped = {parameter for group in own_groups for parameter in group.parameters}
    every = (*network.parameters(), *objective.parameters())
    optimizer = build_optimizer(
        study.training.optimizer,
        [parameter for parameter in every if parameter not in grouped],
        own_groups=[(group.parameters, group.options) for group in own_groups],
    )
    infinite = infinite_buffers({"network": network, "objective": objective})
    return Member(config.name, network, objective, optimizer, mesh.peers, infinite, own_groups)
