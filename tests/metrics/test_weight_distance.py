import math

import numpy as np
import pytest
import torch

from alignctl.metrics import weight_gap


def make_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "encoder.conv1.weight": (4, 3, 2, 2),
        "encoder.bn1.weight": (4,),
        "encoder.bn1.bias": (4,),
        "encoder.bn1.running_mean": (4,),
        "projector.0.weight": (5, 4),
        "classifier.weight": (3, 5),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def naive_norm(tensor):
    return math.sqrt(sum(value**2 for value in tensor.flatten().tolist()))


def naive_gap(a, b):
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    return math.sqrt(sum((p - q) ** 2 for p, q in pairs)) / (0.5 * (naive_norm(a) + naive_norm(b)))


def test_gap_matches_its_definition_on_encoder_weights_alone():
    a, b = make_state(0), make_state(1)
    gap = weight_gap(a, b)
    names = ["encoder.conv1.weight", "encoder.bn1.weight"]
    assert list(gap.per_layer) == names
    for name in names:
        assert gap.per_layer[name] == pytest.approx(naive_gap(a[name], b[name]), abs=1e-6)
    assert gap.total == pytest.approx(sum(gap.per_layer.values()))
    assert gap.mean == pytest.approx(gap.total / 2)


def test_angle_matches_the_arccosine_of_the_flattened_encoders():
    a, b = make_state(0), make_state(1)
    names = ["encoder.conv1.weight", "encoder.bn1.weight"]
    flat_a, flat_b = (torch.cat([s[n].flatten() for n in names]).double() for s in (a, b))
    cosine = float(flat_a @ flat_b / (flat_a.norm() * flat_b.norm()))
    assert weight_gap(a, b).angle_degrees == pytest.approx(math.degrees(math.acos(cosine)))


@pytest.mark.parametrize("degrees", [0.0, 1e-9, 1e-3, 45.0, 90.0, 180.0])
def test_angle_keeps_its_digits_however_small(degrees):
    radians = math.radians(degrees)
    a = {"weight": torch.tensor([1.0, 0.0], dtype=torch.float64)}
    b = {"weight": 7 * torch.tensor([math.cos(radians), math.sin(radians)], dtype=torch.float64)}
    assert weight_gap(a, b).angle_degrees == pytest.approx(degrees, rel=1e-6, abs=0)


def test_without_an_encoder_every_weight_counts():
    state = {name.removeprefix("encoder."): value for name, value in make_state().items()}
    state |= {"weight": torch.ones(2), "lightweight": torch.ones(2)}
    other = {name: value + 1 for name, value in state.items()}
    expected = {"conv1.weight", "bn1.weight", "projector.0.weight", "classifier.weight", "weight"}
    assert set(weight_gap(state, other).per_layer) == expected


def test_equal_models_have_no_gap():
    gap = weight_gap(make_state(), make_state())
    assert gap.mean == gap.total == gap.angle_degrees == 0


def test_gap_is_symmetric_and_invariant_to_a_common_scale():
    a, b = make_state(0), make_state(1)
    gap, back = weight_gap(a, b), weight_gap(b, a)
    scaled = weight_gap(*({name: 4 * value for name, value in s.items()} for s in (a, b)))
    for other in (back, scaled):
        assert other.mean == pytest.approx(gap.mean)
        assert other.angle_degrees == pytest.approx(gap.angle_degrees)


def test_opposite_weights_reach_the_upper_end():
    state = make_state()
    gap = weight_gap(state, {name: -value for name, value in state.items()})
    assert gap.mean == pytest.approx(2)
    assert gap.angle_degrees == pytest.approx(180)


def test_small_differences_of_float32_weights_are_taken_in_float64():
    a = {"weight": torch.full((10,), 1.0)}
    b = {"weight": torch.full((10,), 1.0 + 2**-23)}
    assert weight_gap(a, b).mean == pytest.approx(2**-23, rel=1e-6)


def test_layers_that_are_zero_in_both_are_left_out():
    a, b = make_state(0), make_state(1)
    for state in (a, b):
        state["encoder.bn1.weight"] = torch.zeros(4)
    gap = weight_gap(a, b)
    assert list(gap.per_layer) == ["encoder.conv1.weight"]
    assert gap.mean == gap.total
    a["encoder.conv1.weight"] = b["encoder.conv1.weight"] = torch.zeros(4, 3, 2, 2)
    with pytest.raises(ValueError, match="no layer has a weight other than zero"):
        weight_gap(a, b)


def test_a_model_of_zeros_has_no_angle():
    state = make_state()
    zeros = {name: torch.zeros_like(value) for name, value in state.items()}
    with pytest.raises(ValueError, match="state_b: all weights are zero"):
        weight_gap(state, zeros)


def test_layers_that_do_not_match_are_named():
    a, b = make_state(0), make_state(1)
    b["encoder.fc.weight"] = torch.ones(2)
    with pytest.raises(ValueError, match=r"encoder\.fc\.weight: only in state_b"):
        weight_gap(a, b)
    with pytest.raises(ValueError, match=r"encoder\.fc\.weight: only in state_a"):
        weight_gap(b, a)
    b["encoder.fc.weight"], a["encoder.fc.weight"] = torch.ones(2), torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"encoder\.fc\.weight: shapes \(2, 1\) and \(2,\)"):
        weight_gap(a, b)


def test_weights_that_are_not_finite_are_named():
    a, b = make_state(0), make_state(1)
    b["encoder.bn1.weight"][2] = math.nan
    with pytest.raises(ValueError, match=r"encoder\.bn1\.weight: not finite"):
        weight_gap(a, b)


def test_a_state_without_weights_is_refused():
    with pytest.raises(ValueError, match=r"no tensor is named \*\.weight"):
        weight_gap({"bias": torch.ones(1)}, {"bias": torch.ones(1)})


@pytest.mark.parametrize("size", [1e200, 1e-200, 1.7e308, 1e-300])
def test_weights_whose_squares_leave_float64_are_compared(size):
    a, b = (
        {name: value.double() / 10 for name, value in make_state(seed).items()} for seed in (0, 1)
    )
    expected = weight_gap(a, b)
    found = weight_gap(scaled(a, size), scaled(b, size))
    assert found.mean == pytest.approx(expected.mean, rel=1e-12)
    assert found.per_layer == pytest.approx(expected.per_layer, rel=1e-12)
    assert found.angle_degrees == pytest.approx(expected.angle_degrees, rel=1e-12)


def scaled(state, size):
    return {name: value * size for name, value in state.items()}


def test_models_of_very_different_size_have_an_angle():
    a, b = ({n: v.double() / 10 for n, v in make_state(seed).items()} for seed in (0, 1))
    expected = weight_gap(a, b).angle_degrees
    found = weight_gap(scaled(a, 1e200), scaled(b, 1e-200))
    assert found.angle_degrees == pytest.approx(expected, rel=1e-12)
    assert found.mean == pytest.approx(2, abs=1e-12)


def test_tiny_layer_beside_a_huge_one_keeps_its_gap():
    a = {
        "0.weight": torch.tensor([3e-200], dtype=torch.float64),
        "1.weight": torch.tensor([1e200], dtype=torch.float64),
    }
    b = {name: value * factor for (name, value), factor in zip(a.items(), (3, 1), strict=True)}
    assert weight_gap(a, b).per_layer == pytest.approx({"0.weight": 1.0, "1.weight": 0.0})


def linear_layers():
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return model


@pytest.mark.parametrize(
    "convert",
    [
        lambda value: value.numpy(),
        lambda value: value.numpy().astype(">f4"),
        lambda value: value.numpy().astype(">f8"),
        lambda value: value.numpy().astype(np.longdouble),
        lambda value: value.numpy()[..., ::-1],
        lambda value: np.broadcast_to(value.numpy(), value.shape),
    ],
    ids=["numpy", "big-endian", "big-endian double", "longdouble", "reversed", "read-only"],
)
def test_states_of_numpy_arrays_are_compared(convert):
    a, b = (linear_layers().state_dict() for _ in range(2))
    b = {name: value + 0.5 for name, value in b.items()}
    expected = weight_gap(a, b)
    found = weight_gap(*({name: convert(v) for name, v in s.items()} for s in (a, b)))
    assert found.per_layer == pytest.approx(expected.per_layer)
    assert found.angle_degrees == pytest.approx(expected.angle_degrees)


def test_modules_are_compared_by_their_states():
    a, b = linear_layers(), linear_layers()
    with torch.no_grad():
        b[0].weight.add_(1)
    assert weight_gap(a, b) == weight_gap(a.state_dict(), b.state_dict())


WANTED = "want a dense tensor or array of real numbers, not"


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (torch.eye(3).to_sparse(), f"{WANTED} one of layout torch.sparse_coo"),
        (torch.empty(3, 3, device="meta"), f"{WANTED} one on the meta device, which has no values"),
        (torch.eye(3).to(torch.complex64), f"{WANTED} one of torch.complex64"),
        (np.eye(3).astype(complex), f"{WANTED} ndarray of dtype complex128"),
        (np.eye(3).astype(object), f"{WANTED} ndarray of dtype object"),
        (np.array([["a"]]), f"{WANTED} ndarray of dtype <U1"),
        (np.ma.masked_array(np.eye(3), mask=np.eye(3)), f"{WANTED} MaskedArray of dtype float64"),
        ([[1.0]], f"{WANTED} list"),
        (None, f"{WANTED} NoneType"),
        (torch.nn.LazyLinear(3).weight, f"{WANTED} one without values (a lazy parameter)"),
        (np.full((3, 3), np.longdouble("1e4000")), "not finite"),
    ],
)
def test_weights_that_are_no_dense_real_numbers_are_refused(weights, problem):
    fine = {"encoder.fc.weight": torch.eye(3)}
    bad = {"encoder.fc.weight": weights}
    for states, name in (((bad, fine), "state_a"), ((fine, bad), "state_b")):
        with pytest.raises(ValueError) as caught:
            weight_gap(*states)
        assert str(caught.value) == f"{name}, encoder.fc.weight: {problem}"


def test_what_is_no_state_is_refused():
    state = {"weight": torch.ones(2)}
    with pytest.raises(ValueError, match=r"^state_b: want a module or a mapping of weights, not"):
        weight_gap(state, [torch.ones(2)])
    with pytest.raises(ValueError, match=r"^no tensor is named \*\.weight$"):
        weight_gap({0: torch.ones(2)}, {0: torch.ones(2)})
