import itertools
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignctl.metrics import Moments, linear_cka, rsa
from alignctl.metrics.sums.products import CrossProducts
from alignctl.metrics.sums.rows import Frame, Kind, frame_of

KINDS = get_args(Kind)

PAIRS = [(0, 1), (0, 2)]
HALVES = [slice(0, 4), slice(4, None)]


def make_features(num_rows, dims=(5, 7, 3), *, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_rows, 4, generator=generator, dtype=torch.float64)
    return [
        (
            shared @ torch.randn(4, d, generator=generator, dtype=torch.float64)
            + torch.randn(num_rows, d, generator=generator, dtype=torch.float64)
            + 3
        ).to(dtype)
        for d in dims
    ]


def scores(moments, pairs=PAIRS):
    return [
        score
        for pair in pairs
        for score in (
            moments.linear_cka(*pair),
            moments.linear_cka(*pair, debiased=True),
            moments.linear_cka(*pair, debiased=True, kernel="cosine"),
            moments.rsa(*pair),
            moments.rsa(*pair, distance="correlation"),
            moments.rsa(*pair, distance="sqeuclidean"),
        )
    ]


def measure(features, pairs=PAIRS, kinds=KINDS):
    return Moments.measure(features, pairs, Moments.origins_of(features, kinds))


def naive_product(x, y):
    d1, d2, n = x.shape[1], y.shape[1], len(x)
    return torch.tensor(
        [[sum(float(x[k, a] * y[k, b]) for k in range(n)) for b in range(d2)] for a in range(d1)],
        dtype=torch.float64,
    )


def test_centred_products_match_sums_over_rows():
    x, y = make_features(12, (3, 2))
    one = torch.ones((), dtype=torch.float64)
    frames = [Frame("raw", torch.ones_like(z[0]), one, one) for z in (x, y)]
    sums = CrossProducts.measure([x, y], [(0, 1)], frames)
    centred = [z - z.mean(dim=0) for z in (x, y)]
    for i, j in itertools.product(range(2), range(2)):
        torch.testing.assert_close(sums.centred(i, j), naive_product(centred[i], centred[j]))


def test_self_product_wider_than_a_strip_is_complete():
    (x,) = make_features(20, (1100,))
    frame = frame_of(x)
    sums = CrossProducts.measure([x], [], [frame])
    centred = (x - x.mean(dim=0)) * frame.scale
    torch.testing.assert_close(sums.centred(0, 0), centred.T @ centred)


def test_rows_of_several_chunks_are_all_counted():
    features = make_features(9000)
    moments = measure(features)
    assert moments.count == 9000
    for i, j in PAIRS:
        x, y = (features[k] - features[k].mean(dim=0) for k in (i, j))
        expected = (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
        assert moments.linear_cka(i, j) == pytest.approx(float(expected), abs=1e-12)


def test_one_reference_takes_m_self_products_and_m_minus_one_cross_products():
    moments = measure(make_features(10))
    assert set(moments.parts) == {"raw", "unit", "correlation"}
    for part in moments.parts.values():
        assert set(part.products) == {(0, 0), (1, 1), (2, 2), (0, 1), (0, 2)}


def test_scores_agree_with_the_functions_of_two_spaces():
    features = make_features(30)
    moments = measure(features)
    for i, j in PAIRS:
        x, y = features[i], features[j]
        for debiased in (False, True):
            score = moments.linear_cka(i, j, debiased=debiased)
            assert score == pytest.approx(linear_cka(x, y, debiased=debiased))
            assert moments.linear_cka(j, i, debiased=debiased) == pytest.approx(score)
        for distance in ("cosine", "correlation", "sqeuclidean"):
            score = moments.rsa(i, j, distance=distance)
            assert score == pytest.approx(rsa(x, y, distance=distance))
            assert moments.rsa(j, i, distance=distance) == pytest.approx(score)


@settings(deadline=None, max_examples=25)
@given(
    cuts=st.lists(st.integers(0, 40), max_size=5),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 1000),
)
def test_merging_is_independent_of_cuts_and_order(cuts, order, seed):
    features = make_features(40, seed=seed)
    origins = Moments.origins_of([x[:8] for x in features], KINDS)
    bounds = [0, *sorted(cuts), 40]
    parts = [
        Moments.measure([x[a:b] for x in features], PAIRS, origins)
        for a, b in itertools.pairwise(bounds)
    ]
    order.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    assert {part.count for part in merged.parts.values()} == {merged.count} == {40}
    assert scores(merged) == pytest.approx(scores(measure(features)), abs=1e-10)


def test_sums_of_tensors_merge_like_addition():
    features = make_features(40)
    origins = Moments.origins_of(features, KINDS)
    halves = [Moments.measure([x[k] for x in features], PAIRS, origins) for k in HALVES]
    mine, theirs = (half.tensors() for half in halves)
    assert all(tensor.dtype == torch.float64 for tensor in mine)
    for ours, other in zip(mine, theirs, strict=True):
        ours.add_(other)
    merged = halves[1].with_tensors(mine)
    assert {part.count for part in merged.parts.values()} == {merged.count} == {40}
    assert scores(merged) == pytest.approx(scores(measure(features)), abs=1e-10)


def test_a_process_without_rows_adds_nothing():
    features = make_features(20)
    origins = Moments.origins_of(features, KINDS)
    nothing = Moments.measure([x[:0] for x in features], PAIRS, origins)
    both = nothing + Moments.measure(features, PAIRS, origins)
    assert scores(both) == pytest.approx(scores(measure(features)), abs=1e-12)


def test_any_origin_and_scale_give_the_same_scores():
    features = make_features(40)
    far = Moments.origins_of([4 * x + 1 for x in features], KINDS)
    assert scores(Moments.measure(features, PAIRS, far)) == pytest.approx(
        scores(measure(features)), abs=1e-10
    )


@pytest.mark.parametrize("offset", [0, 10, 1000])
def test_float32_keeps_its_digits_on_offset_features(offset):
    features = [(x + offset).float() for x in make_features(5000, (40, 30, 20))]
    exact = scores(measure([x.double() for x in features]))
    assert scores(measure(features)) == pytest.approx(exact, abs=1e-6)


def test_float32_keeps_its_digits_where_rows_are_nearly_parallel():
    generator = torch.Generator().manual_seed(1)
    common = [1e3 * torch.randn(1, 64, generator=generator) for _ in range(3)]
    features = [x.float() + c for x, c in zip(make_features(4000, (64,) * 3), common, strict=True)]
    unit = features[0].double() / features[0].double().norm(dim=1, keepdim=True)
    assert float((unit @ unit.T).min()) > 0.9999
    exact = scores(measure([x.double() for x in features]))
    assert scores(measure(features)) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_converted_up_before_it_is_multiplied(dtype):
    features = make_features(2000, dtype=dtype)
    exact = scores(measure([x.double() for x in features]))
    assert scores(measure(features)) == pytest.approx(exact, abs=1e-6)


def test_autocast_does_not_reach_the_products():
    features = make_features(2000, dtype=torch.float32)
    plain = scores(measure(features))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert scores(measure(features)) == plain


@pytest.fixture
def lowered_precision():
    backends = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
    before = [backend.fp32_precision for backend in backends]
    for backend, precision in zip(backends, ("tf32", "bf16"), strict=True):
        backend.fp32_precision = precision
    yield backends
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch < 2.9")
def test_matmul_precision_is_full_inside_and_restored_afterwards(lowered_precision, monkeypatch):
    seen = []
    original = torch.Tensor.add_

    def spy(tensor, *args, **kwargs):
        seen.append([backend.fp32_precision for backend in lowered_precision])
        return original(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "add_", spy)
    measure(make_features(2000, dtype=torch.float32))
    assert seen
    assert all(state == ["ieee", "ieee"] for state in seen)
    assert [backend.fp32_precision for backend in lowered_precision] == ["tf32", "bf16"]


@pytest.mark.parametrize("num_rows", [1024, 1025])
def test_up_to_1024_rows_are_multiplied_in_float64_whatever_they_are(num_rows, monkeypatch):
    seen = set()
    original = torch.Tensor.__matmul__

    def spy(left, right):
        seen.add(left.dtype)
        return original(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", spy)
    measure(make_features(num_rows, dtype=torch.float32))
    assert (torch.float32 in seen) == (num_rows > 1024)


def test_features_that_require_gradients_leave_no_graph():
    features = [x.requires_grad_() for x in make_features(10)]
    assert not any(tensor.requires_grad for tensor in measure(features).tensors())


def test_features_are_left_as_they_were():
    features = make_features(10)
    before = [x.clone() for x in features]
    measure(features)
    assert all(torch.equal(a, b) for a, b in zip(features, before, strict=True))


def test_zero_row_is_named_and_spares_cka():
    features = make_features(10)
    features[1][6] = 0
    origins = Moments.origins_of(features)
    parts = [Moments.measure([x[k] for x in features], PAIRS, origins) for k in HALVES]
    moments = parts[0] + parts[1]
    with pytest.raises(ValueError, match=r"features\[1\], row 6: all zeros"):
        moments.rsa(0, 1)
    with pytest.raises(ValueError, match=r"features\[1\], row 6"):
        moments.tensors()
    assert moments.linear_cka(0, 1) == pytest.approx(linear_cka(features[0], features[1]))


def test_errors_call_the_models_by_their_names():
    features = make_features(10)
    features[1][6] = 0
    moments = Moments.measure(features, PAIRS, Moments.origins_of(features), ["cl", "nscl", "ce"])
    with pytest.raises(ValueError, match="nscl, row 6: all zeros"):
        moments.rsa(0, 1)


def test_constant_row_has_no_correlation_distance_but_a_cosine():
    features = make_features(10)
    features[1][6] = 0.1
    moments = measure(features)
    with pytest.raises(ValueError, match=r"features\[1\], row 6: constant"):
        moments.rsa(0, 1, distance="correlation")
    assert moments.rsa(0, 1) == pytest.approx(rsa(features[0], features[1]))


def test_one_row_is_too_few():
    with pytest.raises(ValueError, match="at least 2 rows, not 1"):
        measure(make_features(1)).linear_cka(0, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_row_that_is_not_finite_is_named(value):
    features = make_features(9000)
    features[2][8500, 1] = value
    with pytest.raises(ValueError, match=r"features\[2\], row 8500: not finite"):
        measure(features).linear_cka(0, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_row_that_is_not_finite_is_not_called_zero(value):
    features = make_features(10)
    features[2][7, 1] = value
    with pytest.raises(ValueError, match=r"features\[2\], row 7: not finite"):
        measure(features).rsa(0, 1)


def test_constant_features_have_no_score():
    features = [*make_features(10, (4,)), torch.full((10, 3), 0.1, dtype=torch.float64)]
    moments = measure(features, [(0, 1)])
    for score in (moments.linear_cka, moments.rsa):
        with pytest.raises(ValueError, match=r"features\[1\]: every row is the same"):
            score(0, 1)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_features_of_any_size_are_scaled_before_they_are_squared(size):
    features = make_features(2000, dtype=torch.float32)
    exact = scores(measure([x.double() for x in features]))
    scaled = measure([x * size for x in features])
    assert scores(scaled) == pytest.approx(exact, abs=1e-6)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least 3 rows, not 2"):
        measure(make_features(2)).rsa(0, 1)
    with pytest.raises(ValueError, match="at least 4 rows, not 3"):
        measure(make_features(3)).linear_cka(0, 1, debiased=True)


def test_pair_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 2\) is not a measured pair"):
        measure(make_features(10)).linear_cka(1, 2)


def test_rows_of_a_kind_that_was_not_measured_are_refused():
    moments = measure(make_features(10), kinds=("raw",))
    with pytest.raises(ValueError, match="unit rows were not measured; raw were"):
        moments.rsa(0, 1)


def test_different_origins_do_not_merge():
    features = make_features(10)
    first, second = measure(features), measure([x + 1 for x in features])
    with pytest.raises(ValueError, match="different origins"):
        first + second
    with pytest.raises(ValueError, match="different kinds of rows"):
        first + measure(features, kinds=("raw", "unit"))


def test_shapes_that_do_not_fit_are_refused():
    x, y = make_features(10, (4, 3))
    origins = Moments.origins_of([x, y])
    cases = {
        "has 9 rows": [x, y[:9]],
        "want floating-point": [x, y[:, 0]],
        "torch.int64": [x, y.long()],
        r"origins\[1\] has shape \(3,\), not \(4,\)": [x, x],
        "1 feature spaces and 2 origins": [x],
    }
    for message, features in cases.items():
        with pytest.raises(ValueError, match=message):
            Moments.measure(features, [], origins)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_and_never_synchronises():
    features = make_features(5000, (600, 70, 30), dtype=torch.float32)
    on_device = [x.cuda() for x in features]
    origins = Moments.origins_of(on_device, KINDS)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        moments = Moments.measure(on_device, PAIRS, origins)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    exact = scores(measure([x.double() for x in features]))
    assert scores(moments) == pytest.approx(exact, abs=1e-6)
