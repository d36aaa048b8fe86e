"""Batch norm over processes: 1, 2 and 4 of them, against torch's own on the whole batch."""

import copy
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

# Started processes get our sys.path, and so find what they are to run.
sys.path.insert(0, str(Path(__file__).parent / "workers"))

import batch_norm_workers as workers

from alignctl.config.encoder_configs import TimmConfig
from alignctl.encoders import build_network
from alignctl.encoders.timm_models import build_timm_model
from alignctl.errors import ConfigError
from alignctl.objectives import OBJECTIVES
from alignctl.processes import ALONE
from alignctl.training.batch_norm import (
    SynchronisedBatchNorm,
    moments_over_peers,
    synchronise_batch_norm,
)

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-6, torch.bfloat16: 5e-3}
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(
    scope="module",
    params=[1, 2, pytest.param(4, marks=pytest.mark.soak)],
    ids=lambda number: f"{number}-processes",
)
def found(request, small_study, pool):
    """What each process returned, in the order of ranks."""
    return pool.launch(workers.compute, small_study(), size=request.param)


@pytest.fixture(scope="module")
def whole(small_study):
    """The same models of one process that holds the whole batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield workers.models(small_study(), workers.WHOLE)
    torch.set_num_threads(threads)


def relative_error(ours, expected) -> float:
    """The norm of the difference, relative to the norm of what is expected."""
    difference = np.linalg.norm(np.asarray(ours) - np.asarray(expected))
    return float(difference / max(np.linalg.norm(expected), np.finfo(float).tiny))


def flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


@pytest.mark.parametrize("case", workers.CASES, ids=lambda case: case.name)
def test_a_share_is_normalised_as_part_of_the_whole_batch(found, case):
    expected = workers.run_layer(case, case.layer(), workers.WHOLE)
    each = [worker["layers"][case.name] for worker in found]
    tolerance = TOLERANCES[case.dtype]
    for key, values in expected["by_share"].items():
        ours = np.concatenate([worker["by_share"][key] for worker in each])
        if key == "evaluated" and not case.options.get("track_running_stats", True):
            continue  # without running statistics, evaluation goes by the share
        assert relative_error(ours, values) < tolerance, key
    for key, gradient in expected["summed"].items():
        parts = [worker["summed"][key] for worker in each]
        if gradient is None:
            assert parts == [None] * len(each), key
        else:
            assert relative_error(sum(parts), gradient) < tolerance, key
    for key, buffer in expected["same"].items():
        for worker in each:
            assert relative_error(worker["same"][key], buffer) < min(tolerance, 1e-6), key
            np.testing.assert_array_equal(worker["same"][key], each[0]["same"][key])


# Rounding alone takes one process's float32 gradient 2e-5 from that in float64.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", workers.OBJECTIVES)
def test_gradients_of_shares_add_up_to_that_of_the_whole_batch(
    found, whole, name, dtype, tolerance
):
    expected = whole["gradients"][name, dtype]
    each = [worker["models"]["gradients"][name, dtype] for worker in found]
    part = sum(worker["part"] for worker in each)
    assert part == pytest.approx(expected["part"], rel=tolerance)
    for worker in each:
        error = relative_error(flat(worker["gradients"]), flat(expected["gradients"]))
        assert error < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_all_ranks_train_the_same_model_to_the_bit(found, dtype):
    assert len({worker["models"]["trained"][dtype]["digest"] for worker in found}) == 1


def test_the_trained_model_is_that_of_one_process(found, whole):
    expected = whole["trained"][torch.float64]
    for worker in found:
        ours = worker["models"]["trained"][torch.float64]
        assert relative_error(flat(ours["state"]), flat(expected["state"])) < 1e-10


def test_every_objective_is_tried():
    assert set(workers.OBJECTIVES) == set(OBJECTIVES)


@dataclass(frozen=True)
class Twins:
    """Two peers whose shares are the same."""

    rank: int = 0
    size: int = 2

    def gather_tensor(self, share, *, dim):
        return torch.cat([share, share], dim)


def test_parameters_and_buffers_stay_the_same_objects_under_the_same_names(small_study):
    network = build_network(small_study())
    before = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    order = list(network.state_dict())
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    synchronise_batch_norm(network, Twins())
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert list(network.state_dict()) == order
    assert all(after[name] is tensor for name, tensor in before.items()) and len(frozen) == 1
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == frozen
    kinds = {type(m) for m in network.modules() if "BatchNorm" in type(m).__name__}
    assert kinds == {SynchronisedBatchNorm}


def test_a_process_that_is_alone_keeps_torchs_batch_norm(small_study):
    network = build_network(small_study())
    before = list(network.modules())
    synchronise_batch_norm(network, ALONE)
    assert all(ours is module for ours, module in zip(network.modules(), before, strict=True))


def test_states_pass_to_and_from_torchs_batch_norm():
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours = copy.deepcopy(plain)
    synchronise_batch_norm(ours, Twins())
    ours(torch.randn(6, 3))
    assert ours[1].num_batches_tracked == 1
    plain.load_state_dict(ours.state_dict())
    values = torch.randn(6, 3)
    assert torch.equal(plain.eval()(values), ours.eval()(values))
    plain.train()(values)
    ours.load_state_dict(plain.state_dict())
    assert torch.equal(plain.eval()(values), ours(values))


def test_the_mode_of_training_is_kept():
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval())
    synchronise_batch_norm(module, Twins())
    assert [child.training for child in module] == [True, False]


def test_one_value_per_channel_in_all_is_refused():
    layer = SynchronisedBatchNorm(nn.BatchNorm1d(3), ALONE)
    with pytest.raises(ValueError, match="no variance"):
        layer(torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least two dimensions"):
        layer(torch.ones(3))


def test_shares_count_by_how_many_values_they_have():
    first, second = workers.uneven((4, 3), 0), workers.uneven((20, 3), 1)

    class Other(Twins):
        def gather_tensor(self, share, *, dim):
            moments = moments_over_peers(second, ALONE)
            other = [moments.mean, moments.variance, moments.num_values[None]]
            return torch.cat([share, torch.cat(other)[None]], dim)

    moments = moments_over_peers(first, Other())
    variance, mean = torch.var_mean(torch.cat([first, second]), dim=0, correction=0)
    torch.testing.assert_close(moments.mean, mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(moments.variance, variance, rtol=1e-12, atol=0)
    assert moments.num_values == 24


def test_the_variance_of_values_far_from_zero_is_kept():
    values = workers.uneven((64, 3), 0)
    moved = (values + 1e4).float()
    expected = torch.var(moved.double(), dim=0, correction=0)
    variance = moments_over_peers(moved, Twins()).variance
    torch.testing.assert_close(variance.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_models_of_timm_see_the_batch_of_all_peers(name):
    def network():
        torch.manual_seed(0)
        return build_timm_model(TimmConfig(name="timm", model=name)).double().train()

    def run(module, images):
        output = module(images)
        output.square().sum().backward()
        return output, [p.grad for p in module.parameters()], list(module.buffers())

    share = workers.uneven((8, 3, 32, 32), 0)
    ours, plain = network(), network()
    kinds = {type(part).__name__ for part in plain.modules() if hasattr(part, "running_var")}
    assert name == "test_resnet" or kinds == {"BatchNormAct2d"}
    names = list(plain.state_dict())
    synchronise_batch_norm(ours, Twins())
    assert list(ours.state_dict()) == names
    output, gradients, buffers = run(ours, share)
    of_both, expected, statistics = run(plain, torch.cat([share, share]))
    assert relative_error(output.detach(), of_both[:8].detach()) < 1e-10
    assert relative_error(flat(gradients), flat(expected) / 2) < 1e-8
    assert relative_error(flat(buffers), flat(statistics)) < 1e-10
    assert relative_error(ours.eval()(share).detach(), plain.eval()(share).detach()) < 1e-10


class OtherNorm(nn.BatchNorm2d):
    """Does something of its own, such as an activation."""


@pytest.mark.parametrize(
    "layer", [OtherNorm(3), nn.SyncBatchNorm(3), nn.InstanceNorm2d(3, track_running_stats=True)]
)
def test_layers_whose_statistics_cannot_be_shared_are_refused(layer):
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), layer))
    with pytest.raises(ConfigError) as error:
        synchronise_batch_norm(network, Twins())
    assert str(error.value) == (
        f"placement: '0.1' is a {type(layer).__name__}, whose statistics processes cannot share; "
        "only placement=objectives trains such a model"
    )
    synchronise_batch_norm(network, ALONE)
    assert network[0][1] is layer


def test_norms_of_single_images_stay_as_they_are():
    layers = [nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.InstanceNorm2d(3)]
    network = nn.Sequential(*layers)
    synchronise_batch_norm(network, Twins())
    assert all(ours is layer for ours, layer in zip(network, layers, strict=True))


def test_a_norm_with_two_names_is_replaced_under_both():
    network = nn.Sequential(nn.BatchNorm1d(3))
    network.again = network[0]
    synchronise_batch_norm(network, Twins())
    assert type(network[0]) is type(network.again) is SynchronisedBatchNorm


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_twins_see_what_torchs_batch_norm_sees_of_both(device, precision, memory_format):
    def network():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(True))
        return layers.to(device, memory_format=memory_format)

    def run(module, images):
        images = images.detach().to(device, memory_format=memory_format).requires_grad_()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            output = module(images)
        output.float().square().sum().backward()
        statistics = [module[1].running_mean, module[1].running_var]
        return output, images.grad, [*(p.grad for p in module.parameters()), *statistics]

    share = workers.uneven((8, 3, 6, 6), 0).float()
    ours, plain = network(), network()
    synchronise_batch_norm(ours, Twins())
    output, of_images, others = run(ours, share)
    both_output, of_both, expected = run(plain, torch.cat([share, share]))
    tolerance = TOLERANCES[getattr(torch, precision)]
    expected = [both_output[:8], of_both[:8], *(g / 2 for g in expected[:3]), *expected[3:]]
    for found, value in zip([output, of_images, *others], expected, strict=True):
        assert found.dtype == value.dtype
        assert relative_error(workers.plain(found.cpu()), workers.plain(value.cpu())) < tolerance
