from dataclasses import FrozenInstanceError, dataclass
from typing import get_args

import pytest
import torch
from torch import nn

from alignctl.config.objective_configs import (
    CeConfig,
    ClConfig,
    DclConfig,
    NsclConfig,
    ObjectiveName,
    SclConfig,
)
from alignctl.objectives import (
    OBJECTIVES,
    Objective,
    ObjectiveContext,
    StepProgress,
    ViewBatch,
    build_objective,
    ce_loss,
    cl_loss,
    dcl_loss,
    nscl_loss,
    scl_loss,
)

CONTEXT = ObjectiveContext(temperature=0.2, num_classes=3, projection_dim=5)


@dataclass(frozen=True)
class Output:
    h: torch.Tensor
    g: torch.Tensor


class TinyNetwork(nn.Module):
    """A linear encoder and projector that count their forward passes."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2 * 4 * 4, 6)
        self.projector = nn.Linear(6, 5)
        self.passes = 0

    def forward(self, images):
        self.passes += 1
        h = self.encoder(images.flatten(1))
        return Output(h, self.projector(h))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TinyNetwork()


@pytest.fixture
def batch():
    images = torch.randn(2, 4, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    return ViewBatch(images, labels=torch.tensor([0, 1, 2, 1]), ids=torch.arange(4))


def separate_projections(network, batch):
    return torch.stack([network(view).g for view in batch.images])


def test_every_name_of_the_config_has_an_objective():
    assert set(OBJECTIVES) == set(get_args(ObjectiveName))


@pytest.mark.parametrize(
    ("config", "loss"),
    [
        (ClConfig(), lambda views, labels: cl_loss(views, 0.2)),
        (DclConfig(), lambda views, labels: dcl_loss(views, 0.2)),
        (NsclConfig(), lambda views, labels: nscl_loss(views, labels, 0.2)),
        (
            NsclConfig(positive_in_denominator=False),
            lambda views, labels: nscl_loss(views, labels, 0.2, False),
        ),
        (SclConfig(), lambda views, labels: scl_loss(views, labels, 0.2)),
    ],
)
def test_an_objective_applies_its_loss_to_the_projections(network, batch, config, loss):
    objective = build_objective(config, network, CONTEXT)
    expected = loss(separate_projections(network, batch), batch.labels)
    torch.testing.assert_close(objective(network, batch), expected)
    assert list(objective.parameters()) == []


def test_ce_classifies_the_normalised_projection_of_both_views(network, batch):
    objective = build_objective(CeConfig(), network, CONTEXT)
    unit = nn.functional.normalize(separate_projections(network, batch), dim=-1)
    expected = ce_loss(objective.classifier(unit), batch.labels)
    torch.testing.assert_close(objective(network, batch), expected)


def test_ce_owns_a_classifier_that_learns(network, batch):
    objective = build_objective(CeConfig(), network, CONTEXT)
    objective(network, batch).backward()
    assert [tuple(p.shape) for p in objective.parameters()] == [(3, 5), (3,)]
    assert all(p.grad.any() for p in [*objective.parameters(), *network.parameters()])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_all_views_go_through_the_network_in_one_pass(network, batch, name):
    configs = (CeConfig, ClConfig, DclConfig, NsclConfig, SclConfig)
    config = next(c() for c in configs if c().name == name)
    objective = build_objective(config, network, CONTEXT)
    loss = objective(network, batch)
    objective.before_optimizer_step(network, StepProgress(3, 10, 5))
    objective.after_step(network, StepProgress(3, 10, 5))
    assert loss.shape == ()
    assert network.passes == 1


@pytest.mark.parametrize("config", [ClConfig(), CeConfig()])
def test_an_objective_stays_in_float32_under_autocast(network, batch, config):
    objective = build_objective(config, network, CONTEXT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(network, batch)
        g = separate_projections(network, batch)
    assert g.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    if config.name == "ce":
        unit = nn.functional.normalize(g.float(), dim=-1)
        expected = ce_loss(objective.classifier(unit), batch.labels)
    else:
        expected = cl_loss(g, 0.2)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_an_objective_must_say_how_it_computes_its_loss():
    with pytest.raises(TypeError, match="abstract"):
        Objective()


def test_batches_and_contexts_cannot_be_changed(batch):
    with pytest.raises(FrozenInstanceError):
        batch.labels = batch.ids
    with pytest.raises(FrozenInstanceError):
        CONTEXT.temperature = 1.0
