"""RSA on ranks and mutual k-NN, here and in another checkout, turn by turn in one run.

python tests/benchmarks/bench_pairs.py                      this checkout alone
python tests/benchmarks/bench_pairs.py --against FOLDER     beside another, such as a worktree

Processor time, each form in a process of its own that is started once and asked again and again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
CASES = {
    "rsa spearman, 1,500 x 512": (1_500, "float32", "spearman", "cosine"),
    "rsa spearman, float64": (1_500, "float64", "spearman", "cosine"),
    "rsa spearman euclidean": (1_500, "float32", "spearman", "euclidean"),
    "rsa kendall": (1_500, "float32", "kendall", "cosine"),
    "knn cosine, 2,000 x 512": (2_000, "float32", "knn", "cosine"),
    "knn euclidean, float64": (2_000, "float64", "knn", "euclidean"),
}


def serve() -> None:
    """Answer names of cases with seconds, line by line."""
    for line in sys.stdin:
        print(json.dumps(seconds(*CASES[line.strip()])), flush=True)


def seconds(num_rows: int, dtype: str, metric: str, distance: str) -> float:
    import torch

    from alignctl.metrics.neighbours import knn_overlap
    from alignctl.metrics.pairs import pair_rsa

    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(num_rows, 64, generator=generator)
    x, y = (
        torch.randn(num_rows, 512, generator=generator)
        .add(0.2 * factors @ torch.randn(64, 512, generator=generator))
        .relu()
        .to(getattr(torch, dtype))
        for _ in range(2)
    )
    start = time.process_time()
    if metric == "knn":
        knn_overlap(x, y, k=10, distance=distance)
    else:
        pair_rsa(x, y, distance=distance, correlation=metric, max_pairs=10**7, seed=0)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve()
    folders = [HERE] if arguments.against is None else [HERE, arguments.against.resolve()]
    servers = [
        subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    for case in CASES:
        times = [[ask(server, case) for server in servers] for _ in range(arguments.repeats + 1)]
        medians = [statistics.median(column) for column in zip(*times[1:], strict=True)]
        ratio = statistics.median(row[0] / row[-1] for row in times[1:])
        cells = "  ".join(f"{median:7.2f} s" for median in medians)
        print(f"{case:28} {cells}  ratio {ratio:.2f}", flush=True)
    for server in servers:
        server.communicate()
    return None


def ask(server: "subprocess.Popen[str]", case: str) -> float:
    assert server.stdin
    assert server.stdout
    server.stdin.write(f"{case}\n")
    server.stdin.flush()
    return float(json.loads(server.stdout.readline()))


if __name__ == "__main__":
    main()
