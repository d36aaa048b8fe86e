import copy

import pytest
import torch
from torch import nn
from whole_batches import views_of

from alignctl.objectives import ViewBatch
from alignctl.runs import RunDirectory
from alignctl.runs.checkpoints import digest
from alignctl.runs.states import load_state, save_state
from alignctl.training.cohort import build_member

NUM_CLASSES = 3


@pytest.fixture
def member_of(small_study):
    """A function of an objective's name and overrides: a fresh member."""

    def build(name="cl", *overrides):
        study = small_study(*overrides)
        config = next(config for config in study.objectives if config.name == name)
        return build_member(study, config, num_classes=NUM_CLASSES, device=torch.device("cpu"))

    return build


@pytest.fixture
def batches(small_study):
    """Four batches of views of random images."""
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(256, (16, 8, 8, 3), generator=stream, dtype=torch.uint8)
    labels = torch.randint(NUM_CLASSES, (16,), generator=stream)
    ids = torch.arange(16)
    config = small_study().augmentation
    return [
        ViewBatch(views_of(images, ids.numpy(), config=config, seed=0, epoch=epoch), labels, ids)
        for epoch in range(4)
    ]


def weights_of(member):
    return {name: tensor.clone() for name, tensor in member.weights().items()}


def test_all_members_start_from_the_same_network(member_of):
    names = ("cl", "dcl", "nscl", "scl", "ce")
    digests = {digest(member_of(name).network.state_dict()) for name in names}
    assert len(digests) == 1
    assert digest(member_of("cl", "seed=1").network.state_dict()) not in digests


def test_an_objectives_own_weights_are_a_function_of_the_seed(member_of):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = member_of("ce"), member_of("ce")
    assert torch.equal(torch.get_rng_state(), before)
    assert digest(first.weights()) == digest(second.weights())
    other = member_of("ce", "seed=1").objective.classifier.weight
    assert not torch.equal(first.objective.classifier.weight, other)


def test_weights_name_network_and_objective(member_of):
    member = member_of("ce")
    own = {name for name in member.weights() if name.startswith("objective.")}
    assert own == {"objective.classifier.weight", "objective.classifier.bias"}
    assert set(member.weights()) - own == set(member.network.state_dict())
    assert {name.partition(".")[0] for name in member.network.state_dict()} == {
        "encoder",
        "projector",
    }


@pytest.mark.parametrize("name", ["cl", "dcl", "nscl", "scl", "ce"])
def test_two_steps_equal_two_steps_written_by_hand(member_of, batches, name):
    member = member_of(name)
    network, objective = copy.deepcopy(member.network), copy.deepcopy(member.objective)
    parameters = [p for p in [*network.parameters(), *objective.parameters()] if p.requires_grad]
    velocities = [torch.zeros_like(p) for p in parameters]
    for rate, batch in zip([0.1, 0.02], batches[:2], strict=True):
        before = digest(member.network.state_dict())
        found = member.step(batch, learning_rate=rate, clip_norm=None)
        loss = objective(network, batch)
        assert found.shape == () and not found.requires_grad
        torch.testing.assert_close(found, loss.detach(), rtol=1e-6, atol=0)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, v, g in zip(parameters, velocities, gradients, strict=True):
                v.mul_(0.9).add_(g)
                p.sub_(rate * v)
        assert digest(member.network.state_dict()) != before
        for ours, by_hand in ((member.network, network), (member.objective, objective)):
            for key, tensor in ours.state_dict().items():
                torch.testing.assert_close(tensor, by_hand.state_dict()[key], rtol=1e-5, atol=1e-6)
            # an update rounded otherwise may switch a ReLU at zero in the next step
            by_hand.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("name", ["cl", "ce"])
def test_the_gradient_of_the_whole_model_is_clipped_to_the_norm(member_of, batches, name):
    moved = {}
    for clip in (None, 1e9, 0.01):
        member = member_of(name, "training.optimizer.momentum=0")
        before = weights_of(member)
        member.step(batches[0], learning_rate=1.0, clip_norm=clip)
        trained = [
            *(f"{n}" for n, p in member.network.named_parameters() if p.requires_grad),
            *(f"objective.{n}" for n, _ in member.objective.named_parameters()),
        ]
        after = weights_of(member)
        moved[clip] = torch.cat([(after[key] - before[key]).flatten() for key in trained])
    torch.testing.assert_close(moved[1e9], moved[None], rtol=0, atol=0)
    assert moved[None].norm() > 0.1
    torch.testing.assert_close(moved[0.01].norm().item(), 0.01, rtol=1e-3, atol=0)
    cosine = nn.functional.cosine_similarity(moved[0.01], moved[None], dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw"])
def test_a_restored_member_goes_on_bit_by_bit(member_of, batches, optimizer, tmp_path):
    choice = f"training.optimizer={{name: {optimizer}, learning_rate: 0.1}}"
    member = member_of("ce", choice)
    for batch in batches[:2]:
        member.step(batch, learning_rate=0.1, clip_norm=1.0)
    run = RunDirectory(tmp_path)
    save_state(run, 2, "ce", member.state())
    for batch in batches[2:]:
        member.step(batch, learning_rate=0.05, clip_norm=1.0)

    again = member_of("ce", choice)
    again.restore(load_state(run, 2, "ce"))
    assert digest(again.weights()) != digest(member.weights())
    for batch in batches[2:]:
        again.step(batch, learning_rate=0.05, clip_norm=1.0)
    assert digest(again.weights()) == digest(member.weights())


def test_a_step_leaves_the_batch_as_it_is(member_of, batches):
    before = batches[0].images.clone()
    member_of("scl").step(batches[0], learning_rate=0.1, clip_norm=1.0)
    assert torch.equal(batches[0].images, before)


def test_trying_a_network_changes_nothing_of_it(member_of, batches):
    member = member_of("ce")
    member.step(batches[0], learning_rate=0.1, clip_norm=None)
    member.network.projector.eval()
    before = digest(member.weights())
    modes = [module.training for module in member.network.modules()]
    assert member.has_finite_output(8, 8)
    assert digest(member.weights()) == before
    assert [module.training for module in member.network.modules()] == modes
    with torch.no_grad():
        for parameter in member.network.parameters():
            parameter.mul_(1e30)
    assert member.not_finite() == [], "though no product of two of them is finite"
    assert not member.has_finite_output(8, 8)
