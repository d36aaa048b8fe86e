"""Closed-form scores of features that are read in chunks: one pass, and one for their errors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from alignctl.metrics.feature_space import CHUNK, Features, chunks_of, share_in_chunks
from alignctl.metrics.inference.closed_form import is_too_coarse
from alignctl.metrics.inference.estimate import Estimate
from alignctl.metrics.inference.forms import PairForms
from alignctl.metrics.inference.jackknife import (
    MIN_IMAGES,
    POWERS,
    Strata,
    jackknife_estimate,
    of_few,
)
from alignctl.metrics.similarities import Bound, Ratio
from alignctl.metrics.sums.extent import fitted_origins, suits
from alignctl.metrics.sums.moments import Moments, Origins
from alignctl.metrics.sums.pair_sums import PairRows, Spread, influence
from alignctl.metrics.sums.products import Pair, prepared_chunks
from alignctl.metrics.sums.rows import Kind, product_dtype
from alignctl.processes import Processes

_ROWS_ON_CPU = 1024

Streamed = Ratio | Bound
Key = tuple[Pair, Streamed]
Outcome = Estimate | ValueError
"""A score, or why there is none."""


def streamed_estimates(
    spaces: Sequence[Features],
    pairs: Sequence[Pair],
    similarities: Sequence[Streamed],
    *,
    names: Sequence[str],
    device: torch.device,
    processes: Processes,
    strata: Strata | None,
) -> dict[Key, Outcome]:
    """Every similarity of every pair, the same on every process.

    strata: classes of the images, for the standard errors; None for no errors, which saves a pass.
    Multiplied in float64 where float32 has too few digits. Where a score does not exist, a
    ValueError that names the space, and the row, is in its place.
    Raises NotFiniteError, naming space and row, for a NaN or an infinity among the features.
    """
    chunks = _Chunks(spaces, processes, device)
    kinds = tuple(dict.fromkeys(similarity.kind for similarity in similarities))
    first = [x.to(device) for x in chunks.first()]
    ratios = [similarity for similarity in similarities if isinstance(similarity, Ratio)]
    pass_over = _Pass(chunks, pairs, names, processes)
    moments = _sound(
        pass_over,
        Moments.origins_of(first, kinds),
        product_dtype(first, spaces[0].num_rows),
        ratios,
    )
    found: dict[Key, Outcome] = {
        (pair, one): _outcome(one, moments, pair) for pair in pairs for one in similarities
    }
    if strata is not None and ratios:
        found |= _with_errors(moments, chunks, pairs, ratios, strata=strata, processes=processes)
    return found


def _sound(
    pass_over: "_Pass", origins: Origins, dtype: torch.dtype, ratios: Sequence[Ratio]
) -> Moments:
    """Sums in frames that suit all rows, and in a dtype with digits enough."""
    moments = pass_over.measured(origins, dtype)
    if not suits(moments):
        origins = pass_over.fitted(origins)
        moments = pass_over.measured(origins, torch.float64)
    elif any(
        is_too_coarse(moments.part(ratio.kind), ratio.statistic, pass_over.pairs)
        for ratio in ratios
    ):
        moments = pass_over.measured(origins, torch.float64)
    for part in moments.parts.values():
        part.refuse_not_finite()
    return moments


class _Pass:
    """Reads the rows once, every process its share."""

    def __init__(
        self, chunks: "_Chunks", pairs: Sequence[Pair], names: Sequence[str], processes: Processes
    ) -> None:
        self._chunks, self.pairs, self._names, self._processes = chunks, pairs, names, processes

    def measured(self, origins: Origins, dtype: torch.dtype) -> Moments:
        """The sums over all rows, and the first rows at fault: the same on every process."""
        mine = Moments.measure_all(
            ([x.to(torch.promote_types(x.dtype, dtype)) for x in chunk] for chunk in self._chunks),
            self.pairs,
            origins,
            self._names,
            first_row=self._chunks.first_row,
            dtype=dtype,
        )
        faults = self._processes.gather({kind: t.cpu() for kind, t in mine.faults().items()})
        sums = self._processes.sum(mine.unchecked_tensors())
        return mine.with_tensors(sums).with_faults(faults)

    def fitted(self, origins: Origins) -> Origins:
        """The origins in the scale of all rows."""
        return fitted_origins(origins, self._chunks, self._processes)


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
        return int(next(share_in_chunks(self._spaces[0].num_rows, self._processes)).start)

    def first(self) -> list[Tensor]:
        """The first rows of all, alike on every process."""
        return [space.rows(slice(0, CHUNK // 8)) for space in self._spaces]


def _outcome(similarity: Streamed, moments: Moments, pair: Pair) -> Outcome:
    i, j = pair
    try:
        if isinstance(similarity, Ratio):
            part = moments.part(similarity.kind)
            return Estimate(part.spread(similarity.statistic, i, j).score)
        return Estimate(similarity.value(moments.bounds(i, j)))
    except ValueError as error:
        return error


def _with_errors(
    moments: Moments,
    chunks: _Chunks,
    pairs: Sequence[Pair],
    ratios: Sequence[Ratio],
    *,
    strata: Strata,
    processes: Processes,
) -> dict[Key, Outcome]:
    """The scores with their errors, for those pairs and ratios that have a score."""
    spreads = _spreads(moments, pairs, ratios)
    if moments.count < MIN_IMAGES:
        return {key: of_few(spread.score, moments.count) for key, spread in spreads.items()}
    forms = _forms(moments, pairs, ratios)
    shape = (len(spreads), strata.count, POWERS)
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
        key: jackknife_estimate(spread.score, part, kind=strata.kind)
        for (key, spread), part in zip(spreads.items(), sums.cpu(), strict=True)
    }


def _spreads(
    moments: Moments, pairs: Sequence[Pair], ratios: Sequence[Ratio]
) -> dict[tuple[Pair, Ratio], Spread]:
    found = {}
    for pair in pairs:
        for ratio in ratios:
            with suppress(ValueError):  # `_outcome` has kept it
                found[pair, ratio] = moments.part(ratio.kind).spread(ratio.statistic, *pair)
    return found


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
