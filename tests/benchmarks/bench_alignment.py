"""CKA and RSA with intervals: beside bare matrix products, Gram matrices and a public package.

python tests/benchmarks/bench_alignment.py           four models, 10,000 x 2048: time and accuracy
python tests/benchmarks/bench_alignment.py --table   two models: time and memory against n and d
python tests/benchmarks/bench_alignment.py --large   200,000 x 2048 streamed from two files

--table compares with the package ckatorch where it is installed (`pip install ckatorch`).
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alignctl.commands import compare as command
from alignctl.config.metric_configs import parse_metrics
from alignctl.metrics import compare
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.scoring import Question, scores

NUM_MODELS, DIM, REPEATS = 4, 2048, 3
PAIRS = [(0, j) for j in range(1, NUM_MODELS)]
METRICS = ("cka", "cka hsic=debiased", "rsa")
SIZES = [(2_500, 512), (5_000, 512), (10_000, 512), (40_000, 512),
         (10_000, 128), (10_000, 2048)]  # fmt: skip
LARGEST_GRAM = 10_000  # four times as many images take sixteen times the memory


def make_features(num_rows: int, dim: int = DIM, num_models: int = NUM_MODELS) -> list[Tensor]:
    """Like pooled ReLU outputs: non-negative, off the origin, sharing 64 factors."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(num_rows, 64, generator=generator)
    features = []
    for _ in range(num_models):
        x = torch.randn(num_rows, dim, generator=generator)
        x.addmm_(factors, torch.randn(64, dim, generator=generator), beta=1.0, alpha=0.2)
        features.append(x.add_(0.5).relu_())
    return features


def all_scores(features: list[Tensor]) -> list[float]:
    """CKA, debiased CKA and RSA of three models against one, each with its interval."""
    question = Question(parse_metrics(METRICS), confidence=0.95)
    names = [str(index) for index in range(len(features))]
    found = scores([InMemory(x) for x in features], PAIRS, question, names=names)
    return [score.value for pair in PAIRS for score in found[pair]]


def bare_products(features: list[Tensor]) -> None:
    """Four self and three cross products, once for CKA and once for RSA, and nothing else."""
    for _ in range(2):
        for i, j in [*((i, i) for i in range(NUM_MODELS)), *PAIRS]:
            features[i].T @ features[j]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare_with_products() -> None:
    features = make_features(10_000)
    seconds(lambda: bare_products(features))
    # Alternating, so that whatever else the machine does slows both.
    runs = [
        (seconds(lambda: all_scores(features)), seconds(lambda: bare_products(features)))
        for _ in range(REPEATS)
    ]
    ours, bare = (statistics.median(run[side] for run in runs) for side in (0, 1))
    ratio = statistics.median(run[0] / run[1] for run in runs)
    exact = all_scores([x.double() for x in features])
    error = max(abs(a - b) for a, b in zip(all_scores(features), exact, strict=True))
    print(f"all scores with intervals {ours:.2f} s, bare products of one pass {bare:.2f} s")
    print(f"ratio {ratio:.2f} (at most 2.5)")
    print(f"scores {', '.join(f'{score:.4f}' for score in exact)}")
    print(f"largest difference of float32 from float64: {error:.1e}")


def alignctl_ckas(x: Tensor, y: Tensor) -> list[float]:
    return [score.value for score in compare(x, y, METRICS[:2], confidence=None)]


def gram_ckas(x: Tensor, y: Tensor) -> list[float]:
    """As in most research code: n x n matrices in float64, centred or U-centred."""
    grams = [z.double() @ z.double().T for z in (x, y)]
    return [gram_cka(*map(centre, grams)) for centre in (centred, u_centred)]


def gram_cka(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


def centred(gram: Tensor) -> Tensor:
    means = gram.mean(dim=0)
    return gram - means - means[:, None] + gram.mean()


def u_centred(gram: Tensor) -> Tensor:
    n, hollow = len(gram), gram.clone().fill_diagonal_(0)
    means = hollow.sum(dim=0) / (n - 2)
    whole = hollow.sum() / ((n - 1) * (n - 2))
    return (hollow - means - means[:, None] + whole).fill_diagonal_(0)


def ckatorch_ckas(x: Tensor, y: Tensor) -> list[float]:
    from ckatorch.core import cka_base

    return [float(cka_base(x, y, unbiased=unbiased)) for unbiased in (False, True)]


FORMS = {"alignctl": alignctl_ckas, "gram": gram_ckas, "ckatorch": ckatorch_ckas}


def measure(form: str, num_rows: int, dim: int) -> None:
    """One form on one size, in a process of its own: a peak is that of a process's whole life."""
    x, y = make_features(num_rows, dim, num_models=2)
    FORMS[form](x[:64], y[:64])
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS")
    repeats = REPEATS if form == "alignctl" or num_rows <= 5_000 else 1
    values: list[float] = []
    times = [
        seconds(lambda: values.__setitem__(slice(None), FORMS[form](x, y))) for _ in range(repeats)
    ]
    peak = memory("VmHWM") - before
    print(json.dumps({"s": statistics.median(times), "mb": peak / 1e6, "values": values}))


def memory(name: str) -> int:
    """What Linux says of this process, in bytes."""
    (found,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found)


def print_table() -> None:
    try:
        import ckatorch  # noqa: F401
    except ImportError:
        del FORMS["ckatorch"]
    print("biased and debiased linear CKA of two float32 matrices, no intervals")
    print(f"{'n':>7} {'d':>5}  " + "  ".join(f"{form:>20}" for form in FORMS))
    for num_rows, dim in SIZES:
        cells, found = [], []
        for form in FORMS:
            if form != "alignctl" and num_rows > LARGEST_GRAM:
                cells.append(f"{'-':>20}")
                continue
            line = [sys.executable, __file__, "--measure", form, str(num_rows), str(dim)]
            answer = subprocess.run(line, check=True, capture_output=True, text=True)
            result = json.loads(answer.stdout)
            found.append(result["values"])
            cells.append(f"{result['s']:9.3f} s {result['mb']:6.0f} MB")
        spread = max(abs(a - b) for other in found for a, b in zip(found[0], other, strict=True))
        print(f"{num_rows:>7} {dim:>5}  {'  '.join(cells)}   differ by {spread:.0e}")


def measure_large() -> None:
    """`alignctl compare` on two files that are larger together than the memory it takes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("a.npy", "b.npy")]
        # Each in a process of its own: a peak is that of a process's whole life.
        for step in ("--write", "--compare"):
            subprocess.run([sys.executable, __file__, step, *paths], check=True)


def compare_files(a: str, b: str) -> None:
    plan = command.plan(a, b, metrics=METRICS, confidence=0.95, permutations=0, device="cpu")
    duration = seconds(lambda: command.run(plan))
    print(
        f"200,000 x {DIM} x 2: {duration:.1f} s, peak {memory('VmHWM') / 1e9:.2f} GB (below 3 GB)"
    )


def write_large(paths: list[str], num_rows: int = 200_000) -> None:
    maps = [
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(num_rows, DIM))
        for path in paths
    ]
    for start in range(0, num_rows, 10_000):
        for target, rows in zip(maps, make_features(10_000, num_models=2), strict=True):
            target[start : start + 10_000] = rows.numpy() + 0.01 * (start / num_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="time and memory against n and d")
    parser.add_argument("--large", action="store_true", help="peak memory on 200,000 rows")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--compare", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    if arguments.measure:
        form, num_rows, dim = arguments.measure
        measure(form, int(num_rows), int(dim))
    elif arguments.write:
        write_large(arguments.write)
    elif arguments.compare:
        compare_files(*arguments.compare)
    elif arguments.table:
        print_table()
    elif arguments.large:
        measure_large()
    else:
        compare_with_products()


if __name__ == "__main__":
    main()
