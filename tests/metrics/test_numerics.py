"""Digits: every closed form against n x n matrices in float64, where digits are easily lost."""

import itertools
import math
from typing import get_args

import pytest
import torch
from references import u_centred

from alignctl.metrics import Moments, compare, linear_cka, rsa
from alignctl.metrics.sums.rows import Kind

KINDS = get_args(Kind)

SCORES = {
    "biased CKA": linear_cka,
    "debiased CKA": lambda x, y: linear_cka(x, y, debiased=True),
    "RSA, cosine": rsa,
    "RSA, sqeuclidean": lambda x, y: rsa(x, y, "sqeuclidean"),
    "RSA, correlation": lambda x, y: rsa(x, y, "correlation"),
}
MOMENTS = {
    "biased CKA": lambda moments: moments.linear_cka(0, 1),
    "debiased CKA": lambda moments: moments.linear_cka(0, 1, debiased=True),
    "RSA, cosine": lambda moments: moments.rsa(0, 1),
    "RSA, sqeuclidean": lambda moments: moments.rsa(0, 1, distance="sqeuclidean"),
    "RSA, correlation": lambda moments: moments.rsa(0, 1, distance="correlation"),
}


def make_spaces(num_rows, d1=24, d2=16, *, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_rows, 4, generator=generator, dtype=torch.float64)
    return [
        (
            shared @ torch.randn(4, d, generator=generator, dtype=torch.float64)
            + torch.randn(num_rows, d, generator=generator, dtype=torch.float64)
        ).to(dtype)
        for d in (d1, d2)
    ]


def inner_products(x):
    """Of rows less their mean: the same centred matrices, with all digits."""
    x = x.double()
    x = x / x.abs().max()
    x = x - x.mean(dim=0)
    return x @ x.T


def centred(K):
    return K - K.mean(dim=0) - K.mean(dim=1, keepdim=True) + K.mean()


def squared_distances(x, kind):
    x = x.double()
    if kind == "correlation":
        x = x - x.mean(dim=1, keepdim=True)
    x = x / (x.abs().max() if kind == "sqeuclidean" else x.norm(dim=1, keepdim=True))
    return torch.pdist(x - x.mean(dim=0)).square()  # of unit rows twice the cosine distance


def naive_score(name, x, y):
    if name.startswith("RSA"):
        distances = [squared_distances(space, name.split(", ")[1]) for space in (x, y)]
        return float(torch.corrcoef(torch.stack(distances))[0, 1])
    centre = u_centred if name.startswith("debiased") else centred
    K, L = (centre(inner_products(space)) for space in (x, y))
    return float((K * L).sum() / ((K * K).sum() * (L * L).sum()).sqrt())


def merged(x, y):
    """Moments of three chunks, of which the last is small, in another order than the rows'."""
    spaces = (x, y)
    origins = Moments.origins_of([space[: max(2, len(x) // 4)] for space in spaces], KINDS)
    cuts = [0, len(x) // 2, len(x) - 1, len(x)]
    parts = [
        Moments.measure([space[a:b] for space in spaces], [(0, 1)], origins)
        for a, b in itertools.pairwise(cuts)
    ]
    return parts[1] + (parts[2] + parts[0])


def offset(num_rows):
    return [space + 300 for space in make_spaces(num_rows)]


def offset_by_feature(num_rows):
    generator = torch.Generator().manual_seed(1)
    return [
        space + 100 * torch.randn(1, space.shape[1], generator=generator)
        for space in make_spaces(num_rows)
    ]


def one_large_column(num_rows):
    x, y = make_spaces(num_rows)
    x[:, 3] *= 1e6
    return x, y


def duplicated(num_rows):
    return [space[: num_rows // 3].repeat(4, 1)[:num_rows] for space in make_spaces(num_rows)]


def nearly_parallel(num_rows):
    x, y = make_spaces(num_rows)
    return x + 300 * torch.arange(1.0, 25), y  # cosines differ by 1e-8


def far_between(num_rows):
    """Half of the rows a thousand times as long as the others."""
    x, y = make_spaces(num_rows)
    x[::2] *= 1000
    return x, y


CASES = {
    "plain": make_spaces,
    "offset": offset,
    "offset by feature": offset_by_feature,
    "one large column": one_large_column,
    "duplicated rows": duplicated,
    "nearly parallel rows": nearly_parallel,
    "long and short rows": far_between,
    "times 1e30": lambda n: [space * 1e30 for space in make_spaces(n)],
    "times 1e-30": lambda n: [space * 1e-30 for space in make_spaces(n)],
    "one huge, one tiny": lambda n: [s * f for s, f in zip(make_spaces(n), (1e30, 1e-30))],  # noqa: B905
    "float16": lambda n: make_spaces(n, dtype=torch.float16),
    "bfloat16": lambda n: make_spaces(n, dtype=torch.bfloat16),
    "float64": lambda n: make_spaces(n, dtype=torch.float64),
    "mixed": lambda n: [s.to(t) for s, t in zip(make_spaces(n), (torch.float16, torch.float64))],  # noqa: B905
    "more features than images": lambda n: make_spaces(n, n + 20, n + 10),
}


@pytest.mark.parametrize("num_rows", [60, 1100])
@pytest.mark.parametrize("case", CASES)
def test_every_score_has_six_digits(case, num_rows):
    if case == "more features than images" and num_rows > 60:
        num_rows = 200
    x, y = CASES[case](num_rows)
    moments = merged(x, y)
    for name, score in SCORES.items():
        expected = naive_score(name, x, y)
        assert score(x, y) == pytest.approx(expected, abs=1e-6), name
        assert MOMENTS[name](moments) == pytest.approx(expected, abs=1e-6), f"{name}, merged"


@pytest.mark.parametrize("num_rows", [4, 5, 6])
@pytest.mark.parametrize("dims", [(3, 2), (40, 50)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_few_rows_have_six_digits(num_rows, dims, dtype):
    x, y = make_spaces(num_rows, *dims, dtype=dtype)
    for name, score in SCORES.items():
        if "correlation" in name and dims == (3, 2):
            continue  # correlation distances of two features are 0 and 2
        expected = naive_score(name, x, y)
        assert score(x, y) == pytest.approx(expected, abs=1e-6), name
        assert MOMENTS[name](merged(x, y)) == pytest.approx(expected, abs=1e-6), f"{name}, merged"


@pytest.mark.parametrize("num_rows", [4, 60, 1100])
def test_one_feature_has_six_digits(num_rows):
    x, y = make_spaces(num_rows, 1, 1)
    for name in ("biased CKA", "debiased CKA", "RSA, sqeuclidean"):
        expected = naive_score(name, x, y)
        assert SCORES[name](x, y) == pytest.approx(expected, abs=1e-6), name
        assert MOMENTS[name](merged(x, y)) == pytest.approx(expected, abs=1e-6), f"{name}, merged"


@pytest.mark.parametrize("num_rows", [2000, pytest.param(5000, marks=pytest.mark.soak)])
def test_many_images_in_float32_have_six_digits(num_rows):
    x, y = make_spaces(num_rows, 64, 64)
    moments = merged(x, y)
    for name, score in SCORES.items():
        expected = naive_score(name, x, y)
        assert score(x, y) == pytest.approx(expected, abs=1e-6), name
        assert MOMENTS[name](moments) == pytest.approx(expected, abs=1e-6), f"{name}, merged"


def test_rows_in_float32_whose_cosines_differ_by_1e_10_have_six_digits():
    x, y = make_spaces(1100)
    x = x + 3000 * torch.arange(1.0, 25)
    assert rsa(x, y) == pytest.approx(naive_score("RSA, cosine", x, y), abs=1e-6)


@pytest.mark.parametrize(
    ("num_rows", "noise"),
    [
        (60, 1e-2),
        (60, 1e-4),
        (1100, 1e-4),
        pytest.param(1100, 3e-2, marks=pytest.mark.soak),
        pytest.param(1100, 1e-3, marks=pytest.mark.soak),
    ],
)
def test_nearly_equal_distances_have_six_digits(num_rows, noise):
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.eye(num_rows) + noise * torch.randn(num_rows, num_rows, generator=generator)
        for _ in range(2)
    )
    x = x + 0.1 * y
    for name in ("debiased CKA", "RSA, cosine", "RSA, sqeuclidean"):
        assert SCORES[name](x, y) == pytest.approx(naive_score(name, x, y), abs=1e-6), name


def simplex(num_rows):
    return torch.eye(num_rows, dtype=torch.float64)


@pytest.mark.parametrize(
    "make",
    [
        simplex,
        lambda n: simplex(n).float(),
        lambda n: simplex(n) - 1 / n,
        lambda n: 7 * torch.linalg.qr(simplex(n) + 1 / n)[0],
    ],
    ids=["orthonormal", "float32", "simplex", "turned"],
)
def test_equal_distances_have_no_score(make):
    x = make(12)
    (y, _) = make_spaces(12, dtype=x.dtype)
    with pytest.raises(ValueError, match=r"^x: all rows are equally far from each other"):
        linear_cka(x, y, debiased=True)
    for distance in ("cosine", "sqeuclidean"):
        with pytest.raises(ValueError, match=r"^x: all distances are equal, to rounding"):
            rsa(x, y, distance)
        with pytest.raises(ValueError, match=r"^y: all distances are equal, to rounding"):
            rsa(y, x, distance)
    assert math.isfinite(linear_cka(x, y))


def test_equal_distances_have_no_score_in_feature_space_either():
    x = simplex(30)
    y = make_spaces(30, 3, 3, dtype=torch.float64)[0]
    assert compare(x, y, ["cka"])[0].form == "features"
    moments = Moments.measure([x, y], [(0, 1)], Moments.origins_of([x, y]))
    for score in (lambda: moments.linear_cka(0, 1, debiased=True), lambda: moments.rsa(0, 1)):
        with pytest.raises(ValueError, match=r"features\[0\]: all "):
            score()


@pytest.mark.parametrize("size", [1e160, 1e-170])
def test_float64_of_any_size_is_scaled_before_it_is_squared(size):
    x, y = make_spaces(60, dtype=torch.float64)
    assert linear_cka(x * size, y) == pytest.approx(linear_cka(x, y), abs=1e-9)


def test_rows_longer_than_the_largest_float32_have_cosines():
    x, y = make_spaces(1100)
    large = x * (3e38 / x.abs().max())
    assert bool(large.isfinite().all())
    assert float(large.double().norm(dim=1).max()) > torch.finfo(torch.float32).max
    assert rsa(large, y) == pytest.approx(rsa(x, y), abs=1e-6)


RAW = {
    "biased CKA": "cka",
    "debiased CKA": "cka hsic=debiased",
    "RSA, sqeuclidean": "rsa distance=sqeuclidean",
}


def zeros_first(x, y):
    x[:1024] = 0
    return 1e8 + 1e7 * x, y


def zeros_first_and_others_tiny(x, y):
    x[:1024] = 0
    return 1e-8 * x, y


def zeros_in_the_frame_of_all_rows(x, y):
    x[::2] = 0
    return 1e12 * x, y


def equal_first_and_others_huge(x, y):
    x[:1100] = 3
    return x.where(x == 3, 1e15 * x), y


def growing(x, y):
    return x * torch.logspace(-9, 9, len(x))[:, None], y


def shrinking(x, y):
    return x * torch.logspace(9, -9, len(x))[:, None], y


def one_outlier_of_both(x, y):
    x[1500] = y[1500] = 1000.0
    return x, 0.37 * y


def one_outlier_in_the_frame(x, y):
    x[0] = 1000.0
    return x, 0.7 * x


def one_outlier_of_a_space_turned(x, y):
    x[1500] = 1000.0
    turned = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(2)))[0]
    return x, x @ turned


def heavy_tails(x, y):
    lengths = torch.randn(len(x), generator=torch.Generator().manual_seed(3)).mul(1.5).exp()
    return x * lengths[:, None], y * lengths[:, None]


UNEVEN = [zeros_first, zeros_first_and_others_tiny, zeros_in_the_frame_of_all_rows,
          equal_first_and_others_huge, growing, shrinking, one_outlier_of_both,
          one_outlier_in_the_frame, one_outlier_of_a_space_turned, heavy_tails]  # fmt: skip


@pytest.mark.parametrize("make", UNEVEN)
@pytest.mark.parametrize("name", RAW)
def test_rows_of_very_different_size_have_the_scores_of_float64(make, name):
    x, y = make(*make_spaces(2000))  # more than the 1024 rows that a frame is made of
    expected = naive_score(name, x, y)
    (streamed,) = compare(x, y, [RAW[name]])
    assert streamed.form == "features"
    for found in (streamed.value, SCORES[name](x, y)):
        assert found == pytest.approx(expected, abs=2e-7)
        assert found <= 1 + 1e-10  # few digits are left of a debiased score that one row makes
    (exact,) = compare(x.double(), y.double(), [RAW[name]])
    assert streamed.interval == exact.interval
    if exact.ci_low is None:
        assert exact.interval == "none: one image alone makes the score"
        return
    width = exact.ci_high - exact.ci_low
    assert streamed.ci_high - streamed.ci_low == pytest.approx(width, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", SCORES)
def test_float32_products_never_raise_a_score_above_1(name, seed):
    x, _ = make_spaces(2000, seed=seed)
    turned = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(seed)))[0]
    y = x @ turned if name != "RSA, correlation" else 0.3 * x
    assert 1 - 1e-5 < SCORES[name](x, y) <= 1 + 1e-12


@pytest.mark.parametrize("size", [1e160, 1e-160, 1e300, 1e-300])
@pytest.mark.parametrize("dims", [(8, 6), (90, 70)])
@pytest.mark.parametrize(
    "metric",
    [*RAW.values(), "cka kernel=cosine", "rsa", "rsa distance=correlation", "cka_lower_bound",
     "cka kernel=rbf", "procrustes", "svcca", "cka hsic=debiased batch_size=8"],
)  # fmt: skip
def test_size_of_float64_features_changes_no_score(metric, dims, size):
    x, y = make_spaces(60, *dims, dtype=torch.float64)
    (expected,), (found,) = compare(x, y, [metric]), compare(x * size, y / size, [metric])
    assert found.value == pytest.approx(expected.value, abs=1e-9)


@pytest.mark.parametrize("size", [1e160, 1e-160])
def test_later_rows_of_quite_another_size_are_noticed_in_float64(size):
    x, y = make_spaces(3000, dtype=torch.float64)
    x[:1024] = 0
    for metric in RAW.values():
        (expected,), (found,) = compare(x, y, [metric]), compare(x * size, y, [metric])
        assert found.value == pytest.approx(expected.value, abs=1e-9)


def test_moments_whose_squares_leave_float32_say_so():
    x, y = make_spaces(3000)
    origins = Moments.origins_of([x[:1000], y[:1000]])
    moments = Moments.measure([1e15 * x, y], [(0, 1)], origins, ["cl", "nscl"])
    with pytest.raises(ValueError, match=r"^cl: squares leave the range"):
        moments.linear_cka(0, 1)
