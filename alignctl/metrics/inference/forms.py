"""What single images add to sums over all images: the second pass, for standard errors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from alignctl.metrics.precision import plain_float32
from alignctl.metrics.sums.pair_sums import PairRows
from alignctl.metrics.sums.products import CentredForm, CrossProducts, Pair

_STRIP = 512  # columns at a time of a symmetric form, whose upper half stands for both


class PairForms:
    """Turns prepared rows into their shares of the sums, for pairs and each space with itself."""

    def __init__(self, sums: CrossProducts, pairs: Sequence[Pair], dtype: torch.dtype) -> None:
        self._spaces = tuple(dict.fromkeys(i for pair in pairs for i in pair))
        self._means = {i: sums.mean(i).to(dtype) for i in self._spaces}
        self._forms = {
            pair: self._form(sums.form(*pair), dtype, is_self=pair[0] == pair[1])
            for pair in dict.fromkeys([*((i, i) for i in self._spaces), *pairs])
        }

    @staticmethod
    def _form(form: CentredForm, dtype: torch.dtype, *, is_self: bool) -> CentredForm:
        cross = form.cross.to(dtype)
        return CentredForm(
            _upper(cross) if is_self else cross, form.lever_x.to(dtype), form.lever_y.to(dtype)
        )

    @torch.no_grad()
    def rows(self, chunk: Sequence[Tensor]) -> dict[Pair, PairRows]:
        """chunk: M of (m, d_i + 1), some rows, prepared in the frames of the sums."""
        rows = {i: chunk[i][:, :-1] - self._means[i] for i in self._spaces}
        lengths = {i: torch.linalg.vector_norm(x, dim=1).double().square()
                   for i, x in rows.items()}  # fmt: skip
        found = {}
        with plain_float32(chunk[0].device.type):
            for (i, j), form in self._forms.items():
                x, y = rows[i], rows[j]
                found[i, j] = PairRows(
                    _bilinear(x, form.cross, y) if i != j else _quadratic(x, form.cross),
                    (x @ form.lever_x).double(),
                    (y @ form.lever_y).double(),
                    lengths[i],
                    lengths[j],
                )
        return found


def _bilinear(x: Tensor, matrix: Tensor, y: Tensor) -> Tensor:
    """x' M y of each pair of rows: (m,), float64."""
    return _row_products(x @ matrix, y)


def _upper(matrix: Tensor) -> Tensor:
    """U such that x' M x = x' U x for the symmetric M: its strips twice, nothing below them."""
    doubled = matrix.clone()
    for start in range(0, len(matrix), _STRIP):
        doubled[start : start + _STRIP, start + _STRIP :] *= 2
    return doubled


def _quadratic(x: Tensor, upper: Tensor) -> Tensor:
    """x' U x of each row, U of `_upper`: (m,), float64; takes half the products."""
    total = x.new_zeros(len(x), dtype=torch.float64)
    for start in range(0, x.shape[1], _STRIP):
        piece = x[:, start : start + _STRIP] @ upper[start : start + _STRIP, start:]
        total += _row_products(piece, x[:, start:])
    return total


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row of a with the same row of b: (m,), float64."""
    products: Tensor = torch.linalg.vecdot(a, b, dim=1)
    return products.double()
