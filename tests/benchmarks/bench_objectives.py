"""Our losses against a textbook form that broadcasts to (2B, 2B, D): time and peak memory.

    python tests/benchmarks/bench_objectives.py [--batch 1024] [--dim 128] [--threads 2]

Loss and backward in float32, each form in a process of its own. At the default size the textbook
form of `nscl` needs about 13 GB. Prints medians, what each adds to its process's memory, ratios.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TEXTBOOK = "textbook nscl"
FORMS = ("nscl", "cl", "dcl", "scl", TEXTBOOK)


def textbook_nscl(views: "Tensor", labels: "Tensor", temperature: float = 0.5) -> "Tensor":
    """`nscl` as one would write it down: every pair's cosine by broadcasting, then exponentials."""
    import torch
    import torch.nn.functional as F

    z, y = torch.cat([views[0], views[1]]), torch.cat([labels, labels])
    terms = (F.cosine_similarity(z[:, None], z[None, :], dim=2) / temperature).exp()
    positives = torch.cat([terms.diagonal(len(labels)), terms.diagonal(-len(labels))])
    negatives = (terms * (y[:, None] != y[None, :])).sum(dim=1)
    return -(positives / (positives + negatives)).log().mean()


def loss_of(form: str) -> "Callable[[Tensor, Tensor], Tensor]":
    """The loss that `form` names, as a function of views and labels."""
    from alignctl import objectives

    if form == TEXTBOOK:
        return textbook_nscl
    if form in ("cl", "dcl"):
        unlabelled = {"cl": objectives.cl_loss, "dcl": objectives.dcl_loss}[form]
        return lambda views, labels: unlabelled(views)
    return {"nscl": objectives.nscl_loss, "scl": objectives.scl_loss}[form]


def peak_memory() -> float:
    """The largest size that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_form(form: str, *, batch: int, dim: int, threads: int) -> dict[str, float]:
    """Median seconds of loss and backward, peak MB above the start, and the loss of one form."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    views, labels = torch.randn(2, batch, dim), torch.randint(10, (batch,))
    loss = loss_of(form)
    loss(views[:, :16].clone().requires_grad_(), labels[:16]).backward()
    baseline = peak_memory()
    seconds = []
    for _ in range(2 if form == TEXTBOOK else 25):
        leaf = views.clone().requires_grad_()
        start = time.perf_counter()
        value = loss(leaf, labels)
        value.backward()
        seconds.append(time.perf_counter() - start)
    memory = peak_memory() - baseline
    return {"seconds": median(seconds), "memory_mb": memory, "loss": value.item()}


def measure(form: str, arguments: list[str]) -> dict[str, float]:
    """`time_form` in a process of its own."""
    command = [sys.executable, __file__, "--form", form, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure every form and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    form = options.pop("form")
    if form:
        print(json.dumps(time_form(form, **options)))
        return
    results = {form: measure(form, sys.argv[1:]) for form in FORMS}
    for form, result in results.items():
        seconds, memory, loss = result["seconds"], result["memory_mb"], result["loss"]
        print(f"{form:14} {seconds:8.4f} s  {memory:8.1f} MB  loss {loss:.6f}")
    faster, smaller = (results[TEXTBOOK][k] / results["nscl"][k] for k in ("seconds", "memory_mb"))
    print(f"nscl is {faster:.0f} times faster than the textbook, in 1/{smaller:.0f} of the memory")


if __name__ == "__main__":
    main()
