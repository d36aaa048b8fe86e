"""Several spaces compared pairwise: what is made of each kept for its pairs, and made anew.

python tests/benchmarks/bench_spaces.py [--spaces 4] [--rows 1200] [--repeats 5]

Processor time of both sides, turn by turn in one process, and whether the scores are the same bits.
"""

import argparse
import itertools
import statistics
import time

import torch

from alignctl.config.metric_configs import parse_metrics
from alignctl.metrics.feature_space import InMemory
from alignctl.metrics.scoring import Question, scores
from alignctl.metrics.shared_spaces import LIMIT, SharedSpaces

CASES = {
    "cka rbf": ("cka kernel=rbf",),
    "cka rbf, biased and debiased": ("cka kernel=rbf", "cka kernel=rbf hsic=debiased"),
    "cka, 3 statistics of kernels": ("cka", "cka hsic=debiased", "rsa distance=sqeuclidean"),
    "rsa euclidean": ("rsa distance=euclidean",),
    "rsa spearman": ("rsa correlation=spearman",),
    "rsa spearman and kendall": ("rsa correlation=spearman", "rsa correlation=kendall"),
    "knn": ("knn",),
}


def made_spaces(count: int, rows: int, width: int) -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    factors = torch.randn(rows, 64, generator=stream)
    return [
        torch.randn(rows, width, generator=stream)
        .add(0.2 * factors @ torch.randn(64, width, generator=stream))
        .relu()
        for _ in range(count)
    ]


def measured(spaces: list[torch.Tensor], metrics: tuple[str, ...], limit: int) -> tuple:
    """Seconds, and the scores."""
    SharedSpaces.__init__.__defaults__ = (limit,)
    pairs = list(itertools.combinations(range(len(spaces)), 2))
    names = tuple(f"space {index}" for index in range(len(spaces)))
    features = [InMemory(space) for space in spaces]
    start = time.process_time()
    found = scores(features, pairs, Question(parse_metrics(metrics)), names=names)
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", type=int, default=4)
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for case, metrics in CASES.items():
        # Wider than twice the rows: then CKA takes kernels too.
        width = 2 * arguments.rows + 8 if case.startswith("cka,") else 512
        spaces = made_spaces(arguments.spaces, arguments.rows, width)
        sides = [
            [measured(spaces, metrics, limit) for limit in (0, LIMIT)]
            for _ in range(arguments.repeats + 1)
        ]
        anew, kept = (statistics.median(row[side][0] for row in sides[1:]) for side in (0, 1))
        ratio = statistics.median(row[1][0] / row[0][0] for row in sides[1:])
        same = "same bits" if all(row[0][1] == row[1][1] for row in sides) else "OTHER NUMBERS"
        print(
            f"{case:30} anew {anew:6.2f} s  kept {kept:6.2f} s  ratio {ratio:.2f}  {same}",
            flush=True,
        )


if __name__ == "__main__":
    main()
