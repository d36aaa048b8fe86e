"""Bootstrap intervals over images: no formula for the error, and no pair of an image with itself.

A resample gives image i the weight w_i, how often it was drawn. A drawn-twice image must not be
compared with itself: that would bring back the self terms which debiased CKA and RSA leave out.
So sums run over different images, each weighted: with A and B the two matrices without their
diagonals, W_k the number of ordered k-tuples of draws of different images,

    HSIC_1 = S2 / W2 - 2 S3 / W3 + S4 / W4,  S2 = sum w_i w_j A_ij B_ij,
    S3 = sum w_i w_j w_q A_ij B_iq,  S4 = sum w_i w_j w_q w_r A_ij B_qr,

over all different i, j, q, r: Song et al. 2012, eq. 4, with weights.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from alignctl.config.metric_configs import CkaConfig, RsaConfig, parse_metric
from alignctl.metrics.arguments import check_share, check_text, check_whole
from alignctl.metrics.inference.closed_form import NAMES, from_kernels, linear_kernels
from alignctl.metrics.sums import gram
from alignctl.metrics.sums.pair_sums import Statistic
from alignctl.metrics.sums.rows import KIND_OF_DISTANCE, KIND_OF_KERNEL, Array, as_features
from alignctl.randomness import uniforms

_RESAMPLES_AT_ONCE = 256
_MIN_ROWS = 20  # fewer leave some resample with three different images


def bootstrap_interval(
    x: Array,
    y: Array,
    metric: str = "cka hsic=debiased",
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a score of two spaces, over images.

    x: (n, d1) and y: (n, d2). metric: debiased CKA with any kernel, or RSA with Pearson correlation
    on cosine, correlation or sqeuclidean distance. O(n^2 (d + resamples)) time, O(n resamples)
    memory, in float64.
    Raises ValueError for any other metric or argument, and where there is no score.
    Source: Efron 1979; weights over different images as explained above.
    """
    check_text("metric", metric)
    check_share("confidence", confidence)
    check_whole("resamples", resamples, at_least=1)
    check_whole("seed", seed)
    spaces = as_features(x, y)
    if len(spaces[0]) < _MIN_ROWS:
        raise ValueError(f"the bootstrap needs at least {_MIN_ROWS} rows, not {len(spaces[0])}")
    value, statistic, kernels = _form_of(metric, spaces)
    from_kernels(*kernels, statistic, with_error=False)  # where there is no score, it says so
    found = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, resamples - start)
        weights = _weights(kernels[0].count, size, seed=seed, block=start)
        weights = weights.to(kernels[0].diagonal.device)
        cross, self_x, self_y = (value(a, b, weights) for a, b in _pairs(kernels))
        found.append(cross / (self_x * self_y).sqrt())
    tail = (1 - confidence) / 2
    both = torch.cat(found)
    if not both.isfinite().all():
        raise ValueError("some resamples have no score: too few rows are different")
    low, high = both.quantile(both.new_tensor([tail, 1 - tail]))
    return float(low), float(high)


Matrices = tuple[gram.CentredKernel, gram.CentredKernel]
Value = Callable[[gram.CentredKernel, gram.CentredKernel, Tensor], Tensor]


def _form_of(metric: str, spaces: tuple[Tensor, Tensor]) -> tuple[Value, Statistic, Matrices]:
    config = parse_metric(metric)
    if isinstance(config, RsaConfig) and config.is_closed_form:
        return (
            _distance_covariance,
            "distances",
            linear_kernels(*spaces, KIND_OF_DISTANCE[config.distance]),
        )
    if isinstance(config, CkaConfig) and config.hsic == "debiased" and config.batch_size is None:
        if config.kernel == "rbf":
            x, y = (
                gram.rbf_kernel(space, config.bandwidth, name)
                for space, name in zip(spaces, NAMES, strict=True)
            )
            return _hsic, "debiased", (x, y)
        return _hsic, "debiased", linear_kernels(*spaces, KIND_OF_KERNEL[config.kernel])
    raise ValueError(
        f"'{metric}' has no bootstrap: choose cka hsic=debiased, or rsa correlation=pearson "
        "with distance=cosine, correlation or sqeuclidean"
    )


def _pairs(kernels: Matrices) -> list[tuple[gram.CentredKernel, gram.CentredKernel]]:
    x, y = kernels
    return [(x, y), (x, x), (y, y)]


def _weights(num_images: int, resamples: int, *, seed: int, block: int) -> Tensor:
    """How often each image is drawn: (num_images, resamples), float64, columns sum to n."""
    draws = uniforms(
        seed,
        "bootstrap",
        epoch=block,
        samples=np.arange(num_images),
        view=0,
        num_draws=resamples,
    )
    drawn = (draws * num_images).astype(np.int64)
    columns = np.broadcast_to(np.arange(resamples), drawn.shape)
    weights = np.zeros((num_images, resamples))
    np.add.at(weights, (drawn, columns), 1.0)
    return torch.from_numpy(weights)


def _hsic(x: gram.CentredKernel, y: gram.CentredKernel, weights: Tensor) -> Tensor:
    """HSIC_1 of every resample: (resamples,)."""
    sums = weights.new_zeros(7, weights.shape[1])
    for part in gram.parts(x.count):
        a = _without_diagonal(x.block(part), part)
        b = a if y is x else _without_diagonal(y.block(part), part)
        w, both, a_sums, b_sums = weights[part], a * b, a @ weights, b @ weights
        paired, skewed, chained = both @ weights, both @ weights.square(), a_sums * b_sums
        terms = [paired, skewed, w * skewed, a_sums, b_sums, chained, w * chained]
        sums += torch.stack([(w * term).sum(dim=0) for term in terms])
    pair, skew, square, a_sum, b_sum, chain, twice = sums
    pairs, triples, quadruples = _tuples(weights)
    chains = chain - skew
    squares = a_sum * b_sum - 4 * twice + 2 * square
    hsic: Tensor = pair / pairs - 2 * chains / triples + squares / quadruples
    return hsic


def _distance_covariance(x: gram.CentredKernel, y: gram.CentredKernel, weights: Tensor) -> Tensor:
    """Covariance of the distances of different images in every resample: (resamples,)."""
    products, x_sums, y_sums = weights.new_zeros(3, weights.shape[1])
    for part in gram.parts(x.count):
        a, b, w = _distances(x, part), _distances(y, part), weights[part]
        products += (w * ((a * b) @ weights)).sum(dim=0)
        x_sums += (w * (a @ weights)).sum(dim=0)
        y_sums += (w * (b @ weights)).sum(dim=0)
    pairs, _, _ = _tuples(weights)
    covariance: Tensor = products / pairs - (x_sums / pairs) * (y_sums / pairs)
    return covariance


def _tuples(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ordered pairs, triples and quadruples of draws of different images, of each resample."""
    n, p2, p3, p4 = (weights.pow(power).sum(dim=0) for power in (1, 2, 3, 4))
    triples = n**3 - 3 * n * p2 + 2 * p3
    return n**2 - p2, triples, n**4 - 6 * n**2 * p2 + 8 * n * p3 + 3 * p2**2 - 6 * p4


def _without_diagonal(block: Tensor, part: slice) -> Tensor:
    rows = torch.arange(len(block))
    block = block.clone()
    block[rows, rows + part.start] = 0.0
    return block


def _distances(kernel: gram.CentredKernel, part: slice) -> Tensor:
    """Squared distances: (m, n), exactly 0 on the diagonal."""
    squared = kernel.diagonal[part, None] + kernel.diagonal - 2 * kernel.block(part)
    return _without_diagonal(squared, part)
