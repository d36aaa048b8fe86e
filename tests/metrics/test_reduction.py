import pytest
import torch

from alignctl.metrics import reduction
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.reduction import reduced
from alignctl.metrics.sums.rows import NotFiniteError


def make_space(num_rows, dim, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(num_rows, dim, generator=generator, dtype=torch.float64) + 5).to(dtype)


def centred(space):
    return space.double() - space.double().mean(dim=0)


def scaled(matrix):
    return matrix / matrix.norm()


SHAPES = pytest.mark.parametrize(
    "shape", [(500, 6, 4), (500, 1, 9), (11, 6, 4), (10, 6, 4), (20, 60, 50), (20, 300, 3)]
)


@SHAPES
@pytest.mark.parametrize("block", [1, 64, 2**22])
def test_few_rows_have_the_inner_products_of_all(shape, block, monkeypatch):
    monkeypatch.setattr(reduction, "_BLOCK_ENTRIES", block)
    num_rows, d1, d2 = shape
    x, y = make_space(num_rows, d1, 0), make_space(num_rows, d2, 1)
    a, b = reduced(InMemory(x), InMemory(y))
    # Turning the columns of a space leaves what does not depend on its axes: A A'.
    products = scaled(a.rows @ a.rows.T), scaled(b.rows @ b.rows.T)
    found = (products[0] * products[1]).sum()
    kernels = [scaled(centred(space) @ centred(space).T) for space in (x, y)]
    torch.testing.assert_close(found, (kernels[0] * kernels[1]).sum())
    assert 0.5 <= float(a.rows.abs().amax()) < 1
    assert a.count == b.count == num_rows


@SHAPES
def test_columns_are_those_of_the_features(shape):
    num_rows, d1, d2 = shape
    x, y = make_space(num_rows, d1, 0), make_space(num_rows, d2, 1)
    a, _ = reduced(InMemory(x), InMemory(y))
    columns = torch.cat(list(a.columns()), dim=1)
    assert columns.shape[1] == d1
    expected = scaled(centred(x).T @ centred(x))
    torch.testing.assert_close(scaled(columns.T @ columns), expected)


@SHAPES
def test_nothing_is_larger_than_the_features(shape):
    num_rows, d1, d2 = shape
    x, y = make_space(num_rows, d1, 0), make_space(num_rows, d2, 1)
    for space, dim in zip(reduced(InMemory(x), InMemory(y)), (d1, d2), strict=True):
        rows, columns = space.rows.shape
        assert rows <= min(num_rows, d1 + d2)
        assert columns <= min(num_rows, dim)


@SHAPES
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_equal_rows_are_exactly_0(shape, dtype):
    num_rows, d1, d2 = shape
    x = torch.full((num_rows, d1), 0.1, dtype=dtype)
    a, _ = reduced(InMemory(x), InMemory(make_space(num_rows, d2, 1, dtype)))
    assert not a.rows.any()


@SHAPES
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_row_that_is_not_finite_is_named(shape, value):
    num_rows, d1, d2 = shape
    x, y = make_space(num_rows, d1, 0), make_space(num_rows, d2, 1)
    y[7, 2] = value
    with pytest.raises(NotFiniteError, match=r"^y, row 7: not finite$"):
        reduced(InMemory(x), InMemory(y))


def test_first_rows_that_are_like_no_others_cost_no_digits():
    x, y = make_space(5000, 6, 0), make_space(5000, 4, 1)
    x[:1024] = 0
    for scale in (1.0, 1e150):
        a, b = reduced(InMemory(x * scale), InMemory(y))
        found = scaled(a.rows.T @ b.rows)
        signs = found[:1].sign() * scaled(centred(x).T @ centred(y))[:1].sign()
        assert signs.unique().numel() == 1
        torch.testing.assert_close(found, scaled(centred(x).T @ centred(y)))
