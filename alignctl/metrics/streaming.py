"""Closed-form scores of features that are read in chunks: one pass, and one for their errors."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from alignctl.metrics.closed_form import cancels
from alignctl.metrics.estimate import Estimate
from alignctl.metrics.forms import PairForms
from alignctl.metrics.jackknife import MIN_IMAGES, POWERS, Strata, jackknife_estimate, of_few
from alignctl.metrics.moments import Moments
from alignctl.metrics.pair_sums import PairRows, Spread, influence
from alignctl.metrics.products import Pair, prepared_chunks
from alignctl.metrics.rows import Kind, product_dtype
from alignctl.metrics.similarities import Bound, FromProducts, Ratio
from alignctl.metrics.sources import CHUNK, Features, Processes, chunks_of, share_of

_ROWS_ON_CPU = 1024

Streamed = Ratio | Bound | FromProducts
Key = tuple[Pair, Streamed]


def streamed_estimates(
    spaces: Sequence[Features],
    pairs: Sequence[Pair],
    similarities: Sequence[Streamed],
    *,
    names: Sequence[str],
    device: torch.device,
    processes: Processes,
    strata: Strata | None,
    wide: bool = False,
) -> dict[Key, Estimate]:
    """Every similarity of every pair, the same on every process.

    strata: classes of the images, for the standard errors; None for no errors, which saves a pass.
    wide: multiply in float64 in any case; else where float32 has too few digits.

    Raises ValueError that names the space, and the row, where a score does not exist.
    """
    chunks = _Chunks(spaces, processes, device)
    kinds = tuple(dict.fromkeys(similarity.kind for similarity in similarities))
    first = [x.to(device) for x in chunks.first()]
    origins = Moments.origins_of(first, kinds)
    ratios = [similarity for similarity in similarities if isinstance(similarity, Ratio)]

    def measured(dtype: torch.dtype) -> Moments:
        read = ([x.to(torch.promote_types(x.dtype, dtype)) for x in chunk] for chunk in chunks)
        mine = Moments.measure_all(
            read, pairs, origins, names, first_row=chunks.first_row, dtype=dtype
        )
        return mine.with_tensors(processes.sum(mine.tensors()))

    dtype = torch.float64 if wide else product_dtype(first, spaces[0].num_rows)
    moments = measured(dtype)
    if any(cancels(moments.part(ratio.kind), ratio.statistic) for ratio in ratios):
        moments = measured(torch.float64)
    found = {(pair, one): Estimate(_value(one, moments, pair))
             for pair in pairs for one in similarities}  # fmt: skip
    if strata is None or not ratios:
        return found
    if moments.count < MIN_IMAGES:
        few = [(pair, ratio) for pair in pairs for ratio in ratios]
        return found | {key: of_few(found[key].value, moments.count) for key in few}
    return found | _with_errors(moments, chunks, pairs, ratios, strata=strata, processes=processes)


class _Chunks:
    """This process's rows, which can be read again."""

    def __init__(
        self, spaces: Sequence[Features], processes: Processes, device: torch.device
    ) -> None:
        self._spaces, self._processes, self._device = spaces, processes, device

    def __iter__(self) -> Iterator[list[Tensor]]:
        return chunks_of(self._spaces, self._processes, self._device)

    @property
    def first_row(self) -> int:
        """Of this process's share."""
        return int(next(share_of(self._spaces[0].num_rows, self._processes)).start)

    def first(self) -> list[Tensor]:
        """The first rows of all, alike on every process."""
        return [space.rows(slice(0, CHUNK // 8)) for space in self._spaces]


def _value(similarity: Streamed, moments: Moments, pair: Pair) -> float:
    part = moments.part(similarity.kind)
    i, j = pair
    if isinstance(similarity, Ratio):
        return part.spread(similarity.statistic, i, j).score
    if isinstance(similarity, Bound):
        return similarity.value(moments.bounds(i, j))
    part.pair_sums(i, j)  # names what has no score
    return similarity.value(part.centred(i, j), part.centred(i, i), part.centred(j, j))


def _with_errors(
    moments: Moments,
    chunks: _Chunks,
    pairs: Sequence[Pair],
    ratios: Sequence[Ratio],
    *,
    strata: Strata,
    processes: Processes,
) -> dict[Key, Estimate]:
    keys: list[tuple[Pair, Ratio]] = [(pair, ratio) for pair in pairs for ratio in ratios]
    spreads = {
        (pair, ratio): moments.part(ratio.kind).spread(ratio.statistic, *pair)
        for pair, ratio in keys
    }
    forms = _forms(moments, pairs, ratios)
    shape = (len(keys), strata.count, POWERS)
    sums = moments.zeros(math.prod(shape)).reshape(shape)
    first_row = chunks.first_row
    for chunk in chunks:
        for kind, form in forms.items():
            for start, prepared in _prepared(moments, kind, chunk):
                images = slice(first_row + start, first_row + start + len(prepared[0]))
                for index, pulls in _pulls(moments, form.rows(prepared), kind, spreads):
                    sums[index] += strata.at(images).sums(pulls)
        first_row += len(chunk[0])
    (sums,) = processes.sum([sums])
    return {
        key: jackknife_estimate(spreads[key].score, part, kind=strata.kind)
        for key, part in zip(keys, sums.cpu(), strict=True)
    }


def _forms(
    moments: Moments, pairs: Sequence[Pair], ratios: Sequence[Ratio]
) -> dict[Kind, PairForms]:
    kinds = dict.fromkeys(ratio.kind for ratio in ratios)
    return {kind: PairForms(moments.part(kind), pairs, moments.dtype) for kind in kinds}


def _prepared(
    moments: Moments, kind: Kind, chunk: Sequence[Tensor]
) -> Iterator[tuple[int, list[Tensor]]]:
    """Pieces of a chunk, each with the number of its first row in the chunk."""
    frames = moments.part(kind).frames
    # On the CPU few enough that what is made of them need not come from fresh memory each time.
    size = _ROWS_ON_CPU if chunk[0].device.type == "cpu" else CHUNK
    return prepared_chunks(chunk, frames, moments.dtype, size)


def _pulls(
    moments: Moments,
    rows: Mapping[Pair, PairRows],
    kind: Kind,
    spreads: Mapping[tuple[Pair, Ratio], Spread],
) -> Iterator[tuple[int, Tensor]]:
    """Influences of some images on the scores of this kind, each with its place in `spreads`."""
    part = moments.part(kind)
    for index, (((i, j), ratio), spread) in enumerate(spreads.items()):
        if ratio.kind == kind:
            shares = [(rows[pair], part.pair_sums(*pair)) for pair in ((i, j), (i, i), (j, j))]
            yield index, influence(ratio.statistic, spread, *shares)
