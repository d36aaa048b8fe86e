"""Which images form which batch: a function of the seed and the epoch alone."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alignctl.randomness import uniforms


def draw_batches(
    labels: NDArray[np.int64],
    ids: NDArray[np.int64],
    *,
    batch_size: int,
    method: Literal["stratified", "uniform"],
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:
    """Positions into `labels` and `ids`, (num_batches, batch_size), each at most once an epoch.

    labels, ids: (N,). stratified: the classes are spread evenly over the epoch, so that every
    batch has them in the proportions of the dataset: exactly where all classes have the same size
    and their number divides the batch's, to within a few images elsewhere. The images of the last,
    incomplete batch are left out; which ones changes with the epoch.
    """
    draws = uniforms(seed, "batches", epoch=epoch, samples=ids, view=0, num_draws=2)
    keys = draws[:, 0] if method == "uniform" else _stratified_keys(labels, draws)
    num_batches = len(ids) // batch_size
    order = np.argsort(keys, kind="stable")[: num_batches * batch_size]
    return order.reshape(num_batches, batch_size)


def _stratified_keys(labels: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Image k of the n_c of a class, in random order, falls at random into [k, k + 1) / n_c."""
    order = np.lexsort((draws[:, 0], labels))
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - starts[labels[order]]
    keys: NDArray[np.float64] = (place + draws[:, 1]) / counts[labels]
    return keys
