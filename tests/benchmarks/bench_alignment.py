"""Alignment of three models with one, beside the bare matrix products that it needs.

python tests/benchmarks/bench_alignment.py          10,000 x 2048, time and accuracy
python tests/benchmarks/bench_alignment.py --large  50,000 x 2048, time and peak memory
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from alignctl.metrics import Moments

NUM_MODELS, DIM, REPEATS = 4, 2048, 3
PAIRS = [(0, j) for j in range(1, NUM_MODELS)]


def make_features(num_rows: int) -> list[Tensor]:
    """Like pooled ReLU outputs: non-negative, off the origin, sharing 64 factors."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(num_rows, 64, generator=generator)
    features = []
    for _ in range(NUM_MODELS):
        x = torch.randn(num_rows, DIM, generator=generator)
        x.addmm_(factors, torch.randn(64, DIM, generator=generator), beta=1.0, alpha=0.2)
        features.append(x.add_(0.5).relu_())
    return features


def scores(features: list[Tensor]) -> list[float]:
    origins = Moments.origins_of(features)
    moments = Moments.measure(features, PAIRS, origins)
    return [score for pair in PAIRS for score in (moments.linear_cka(*pair), moments.rsa(*pair))]


def bare_products(features: list[Tensor]) -> None:
    """Four self and three cross products, once for CKA and once for RSA, and nothing else."""
    for _ in range(2):
        for i, j in [*((i, i) for i in range(NUM_MODELS)), *PAIRS]:
            features[i].T @ features[j]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare() -> None:
    features = make_features(10_000)
    seconds(lambda: bare_products(features))
    # Alternating, so that whatever else the machine does slows both.
    runs = [
        (seconds(lambda: scores(features)), seconds(lambda: bare_products(features)))
        for _ in range(REPEATS)
    ]
    ours, bare = (statistics.median(run[side] for run in runs) for side in (0, 1))
    ratio = statistics.median(run[0] / run[1] for run in runs)
    exact = scores([x.double() for x in features])
    error = max(abs(a - b) for a, b in zip(scores(features), exact, strict=True))
    print(f"moments {ours:.2f} s, bare products {bare:.2f} s, ratio {ratio:.2f} (at most 2.0)")
    print(f"scores {', '.join(f'{score:.4f}' for score in exact)}")
    print(f"largest difference of float32 from float64: {error:.1e}")


def measure_large() -> None:
    features = make_features(50_000)
    duration = seconds(lambda: scores(features))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"50,000 x {DIM} x {NUM_MODELS}: {duration:.1f} s, peak {peak:.2f} GiB (below 4 GB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="peak memory on 50,000 rows")
    parser.add_argument("--large-worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    if arguments.large_worker:
        measure_large()
    elif arguments.large:
        # A process of its own: the peak is that of a process's whole life.
        subprocess.run([sys.executable, __file__, "--large-worker"], check=True)
    else:
        compare()


if __name__ == "__main__":
    main()
