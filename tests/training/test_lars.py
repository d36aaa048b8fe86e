import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from alignctl.training import LARS

GOLDEN = Path(__file__).parents[1] / "golden" / "lars.npz"


def parameter(*shape, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=stream))


def take_steps(optimizer, parameters, *, seed, steps=3):
    stream = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, dtype=p.dtype, generator=stream)
        optimizer.step()


def naive_step(weight, velocity, gradient, *, lr, momentum, weight_decay, trust_coefficient):
    gradient = gradient + weight_decay * weight
    ratio = trust_coefficient * np.linalg.norm(weight) / np.linalg.norm(gradient)
    velocity = momentum * velocity + lr * ratio * gradient
    return weight - velocity, velocity


def test_lars_matches_six_steps_of_the_original():
    with np.load(GOLDEN) as stored:
        golden = {key: torch.from_numpy(stored[key]) for key in stored}
    weight, bias = (nn.Parameter(golden[key].clone()) for key in ("w0", "b0"))
    optimizer = LARS([weight, bias], 0.3, weight_decay=0.01, exclude_bias_and_norm=False)
    for step in range(6):
        weight.grad, bias.grad = golden["grad_w"][step], golden["grad_b"][step]
        optimizer.step()
        for result, expected in ((weight, f"w{step + 1}"), (bias, f"b{step + 1}")):
            torch.testing.assert_close(result.data, golden[expected], rtol=0, atol=1e-12)


def test_lars_matches_its_definition_while_the_learning_rate_changes():
    weight = parameter(3, 2)
    settings = {"momentum": 0.8, "weight_decay": 0.1, "trust_coefficient": 0.02}
    optimizer = LARS([weight], 1.0, **settings)
    expected, velocity = weight.detach().numpy().copy(), np.zeros((3, 2))
    for step, lr in enumerate([0.5, 0.1, 2.0]):
        weight.grad = parameter(3, 2, seed=step + 1).data
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        gradient = weight.grad.numpy()
        expected, velocity = naive_step(expected, velocity, gradient, lr=lr, **settings)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-14)


def test_biases_and_norm_parameters_get_neither_decay_nor_adaptation():
    ours, theirs = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    scalar = nn.Parameter(torch.tensor(2.0))
    optimizer = LARS([ours, scalar], 0.1, weight_decay=0.5)
    sgd = torch.optim.SGD([theirs], 0.1, momentum=0.9)
    for p in (ours, theirs, scalar):
        p.grad = torch.ones_like(p)
    for _ in range(3):
        optimizer.step()
        sgd.step()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(scalar, theirs[0] + 1)


def test_a_matrix_is_adapted_although_biases_are_not():
    weight, bias = parameter(4, 3), parameter(4, seed=1)
    start = weight.detach().clone()
    weight.grad, bias.grad = parameter(4, 3, seed=2).data, parameter(4, seed=3).data
    LARS([weight, bias], 1.0).step()
    torch.testing.assert_close((weight - start).norm(), 1e-3 * start.norm())


@pytest.mark.parametrize("exclude", [True, False])
def test_a_matrix_of_zeros_never_moves(exclude):
    weight = nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    optimizer = LARS([weight], 1.0, weight_decay=0.1, exclude_bias_and_norm=exclude)
    take_steps(optimizer, [weight], seed=0)
    assert weight.eq(0).all()


def test_a_bias_of_zeros_moves_only_where_it_is_excluded_from_adaptation():
    for exclude in (True, False):
        bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        take_steps(LARS([bias], 1.0, exclude_bias_and_norm=exclude), [bias], seed=0)
        assert bias.any() == exclude


def test_a_gradient_of_zeros_leaves_only_momentum():
    weight = parameter(3, 2)
    optimizer = LARS([weight], 1.0)
    take_steps(optimizer, [weight], seed=1, steps=1)
    moved = weight.detach().clone()
    velocity = optimizer.state[weight]["velocity"].clone()
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.data, moved - 0.9 * velocity)


def test_parameters_without_a_gradient_stay_as_they_are():
    weight, frozen = parameter(3, 2), parameter(3, 2, seed=1)
    start = frozen.detach().clone()
    weight.grad = torch.ones_like(weight)
    LARS([weight, frozen], 1.0, weight_decay=0.1).step()
    assert torch.equal(frozen.data, start)


def test_a_step_leaves_the_gradients_as_they_are():
    weight = parameter(3, 2)
    weight.grad = torch.ones_like(weight)
    LARS([weight], 1.0, weight_decay=0.1).step()
    assert weight.grad.eq(1).all()


def test_training_goes_on_unchanged_from_a_saved_state(tmp_path):
    model = nn.Linear(3, 2, dtype=torch.float64)
    optimizer = LARS(model.parameters(), 0.5, weight_decay=0.1, exclude_bias_and_norm=False)
    take_steps(optimizer, [*model.parameters()], seed=0)
    restored = copy.deepcopy(model)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    resumed = LARS(restored.parameters(), 9.0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for m, o in ((model, optimizer), (restored, resumed)):
        take_steps(o, [*m.parameters()], seed=1)
    assert torch.equal(model.weight, restored.weight)
    assert torch.equal(model.bias, restored.bias)


def test_a_step_never_waits_for_the_accelerator():
    # A meta tensor has no values: whatever would wait for one raises.
    weight, bias = (nn.Parameter(torch.empty(shape, device="meta")) for shape in ((3, 2), (3,)))
    weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
    LARS([weight, bias], 0.1, weight_decay=0.1).step()


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    weight = parameter(3, 2)
    optimizer = LARS([weight], 0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    before = weight.square().sum().item()
    assert optimizer.step(closure) == before
    assert weight.square().sum() < before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -0.1}, "lr: must not be negative, got -0.1"),
        ({"momentum": 1.0}, r"momentum: must lie in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum: must lie in \[0, 1\), got -0.1"),
        ({"weight_decay": -1e-6}, "weight_decay: must not be negative, got -1e-06"),
        ({"trust_coefficient": 0.0}, "trust_coefficient: must be positive, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LARS([parameter(2, 2)], **{"lr": 0.1, **settings})
