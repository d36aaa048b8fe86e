"""Shares of a batch: the parts of all processes, and their gradients, add up to the whole."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from alignctl.config.objective_configs import CeConfig, ClConfig, DclConfig, NsclConfig, SclConfig
from alignctl.objectives import (
    ObjectiveContext,
    ProjectionObjective,
    ViewBatch,
    build_objective,
)

CONTEXT = ObjectiveContext(temperature=0.2, num_classes=4, projection_dim=6)
# The first share has one class, the last three: no share looks like the batch.
LABELS = torch.tensor([0, 0, 0, 0, 0, 1, 3, 2])


def pull(views, labels):
    """A user's own loss of the whole batch, which is no sum over its images."""
    squared = (views[0] - views[1]).square().sum(dim=1)
    return (squared * labels).mean().sqrt()


OBJECTIVES = {
    "cl": lambda: build_objective(ClConfig(), Flatten(), CONTEXT),
    "dcl": lambda: build_objective(DclConfig(), Flatten(), CONTEXT),
    "nscl": lambda: build_objective(NsclConfig(), Flatten(), CONTEXT),
    "nscl_without_positive": lambda: build_objective(
        NsclConfig(positive_in_denominator=False), Flatten(), CONTEXT
    ),
    "scl": lambda: build_objective(SclConfig(), Flatten(), CONTEXT),
    "ce": lambda: build_objective(CeConfig(), Flatten(), CONTEXT),
    "own": lambda: ProjectionObjective(pull),
}

every_objective = pytest.mark.parametrize("name", OBJECTIVES)
every_split = pytest.mark.parametrize("size", [1, 2, 4])


@dataclass(frozen=True)
class Output:
    h: torch.Tensor
    g: torch.Tensor


class Flatten(nn.Module):
    """A network whose projections are the images' pixels."""

    def forward(self, images):
        return Output(images.flatten(1), images.flatten(1))


@dataclass(frozen=True)
class Together:
    """One of several processes that are all played by this one, in one autograd graph."""

    rank: int
    views: tuple[torch.Tensor, ...]
    labels: tuple[torch.Tensor, ...]

    @property
    def size(self):
        return len(self.views)

    def gather_tensor(self, share, *, dim):
        shares, expected = (self.labels, 0) if share.ndim == 1 else (self.views, 1)
        assert dim == expected
        assert torch.equal(share, shares[self.rank])
        return torch.cat(shares, dim=dim)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def views(request):
    """(2, 8, 6) projections whose size and mean grow from share to share."""
    stream = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 3, 8, dtype=torch.float64)[:, None]
    drawn = torch.randn(2, 8, 6, dtype=torch.float64, generator=stream)
    return (scale * drawn + scale - 1).to(request.param).requires_grad_()


@pytest.fixture
def objective(request, views):
    torch.manual_seed(0)
    return OBJECTIVES[request.getfixturevalue("name")]().to(views.dtype)


def parts_of(objective, views, size):
    """Each process's part of the loss of `views`."""
    shares, labels = views.chunk(size, dim=1), LABELS.chunk(size)
    return [
        objective(
            Flatten(),
            ViewBatch(share[:, :, None, None], own, ids=own, peers=Together(rank, shares, labels)),
        )
        for rank, (share, own) in enumerate(zip(shares, labels, strict=True))
    ]


def check_close(found, expected):
    """1e-10 in float64; in float32 1e-6 of the largest number."""
    tolerance = 1e-10 if found.dtype == torch.float64 else 1e-6 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@every_split
@every_objective
def test_parts_and_their_gradients_add_up_to_the_loss_of_the_batch(name, size, views, objective):
    inputs = [views, *objective.parameters()]
    alone = ViewBatch(views[:, :, None, None], LABELS, ids=LABELS)
    whole = objective(Flatten(), alone)
    found = sum(parts_of(objective, views, size))
    check_close(found.detach(), whole.detach())
    gradients = torch.autograd.grad(found, inputs), torch.autograd.grad(whole, inputs)
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.any()
        check_close(ours, theirs)


@every_objective
def test_only_a_loss_of_the_whole_batch_is_shared_equally(name, views, objective):
    parts = parts_of(objective, views, 2)
    if name == "own":
        assert parts[0] == parts[1]
    else:
        assert abs(parts[0] - parts[1]) > 0.01


@every_objective
def test_the_part_of_a_single_process_is_the_loss(name, views, objective):
    alone = ViewBatch(views[:, :, None, None], LABELS, ids=LABELS)
    (part,) = parts_of(objective, views, 1)
    assert torch.equal(part, objective(Flatten(), alone))
