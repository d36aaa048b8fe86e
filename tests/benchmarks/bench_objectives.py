"""Our losses against a textbook form that broadcasts to (2B, 2B, D): time and peak memory.

    python tests/benchmarks/bench_objectives.py [--batch 1024] [--dim 128] [--threads 2]
    python tests/benchmarks/bench_objectives.py --large [--batch 8192] ...

Loss and backward in float32, each form in a process of its own. At the default size the textbook
form of `nscl` needs about 13 GB. Prints medians, what each adds to its process's memory, ratios.
With --large, our losses by blocks of anchors against the same losses in one block; about 5 GB.
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
LARGE = ("nscl", "scl")
WHOLE = " in one block"


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


def time_form(form: str, *, batch: int, dim: int, threads: int, repeats: int) -> dict[str, float]:
    """Median seconds of loss and backward, peak MB above the start, and the loss of one form."""
    import torch

    from alignctl.objectives import blocks

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    views, labels = torch.randn(2, batch, dim), torch.randint(10, (batch,))
    loss = loss_of(form.removesuffix(WHOLE))
    # By blocks once, for what torch imports at a process's first checkpoint is not the loss's.
    usual, blocks.BLOCK_ELEMENTS = blocks.BLOCK_ELEMENTS, 100
    loss(views[:, :16].clone().requires_grad_(), labels[:16]).backward()
    blocks.BLOCK_ELEMENTS = sys.maxsize if form.endswith(WHOLE) else usual
    baseline = peak_memory()
    seconds = []
    for _ in range(repeats):
        leaf = views.clone().requires_grad_()
        start = time.perf_counter()
        value = loss(leaf, labels)
        value.backward()
        seconds.append(time.perf_counter() - start)
    memory = peak_memory() - baseline
    return {"seconds": median(seconds), "memory_mb": memory, "loss": value.item()}


def measure(form: str, options: dict[str, int]) -> dict[str, float]:
    """`time_form` in a process of its own; prints a line."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, __file__, "--form", form, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    seconds, memory, loss = result["seconds"], result["memory_mb"], result["loss"]
    print(f"{form:18} {seconds:8.4f} s  {memory:8.1f} MB  loss {loss:.6f}", flush=True)
    return result


def compare_with_textbook(options: dict[str, int]) -> None:
    """Measure every loss, and `nscl` as a textbook has it."""
    results = {form: measure(form, options) for form in FORMS[:-1]}
    textbook = measure(TEXTBOOK, {**options, "repeats": 2})
    faster, smaller = (textbook[key] / results["nscl"][key] for key in ("seconds", "memory_mb"))
    print(f"nscl is {faster:.0f} times faster than the textbook, in 1/{smaller:.0f} of the memory")


def compare_blocks(options: dict[str, int]) -> None:
    """Measure losses by blocks and in one block."""
    for form in LARGE:
        blocked, whole = (measure(name, options) for name in (form, form + WHOLE))
        slower, smaller = blocked["seconds"] / whole["seconds"], whole["memory_mb"]
        smaller /= blocked["memory_mb"]
        print(f"{form} by blocks takes {slower:.2f} times the time, 1/{smaller:.0f} of the memory")


def main() -> None:
    """Measure one form, or every form, each in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true", help="by blocks against in one block")
    parser.add_argument("--batch", type=int, help="images, each with two views")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--form", help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    form, large = options.pop("form"), options.pop("large")
    options["batch"] = options["batch"] or (8192 if large else 1024)
    options["repeats"] = options["repeats"] or (5 if large else 25)
    if form:
        print(json.dumps(time_form(form, **options)))
    elif large:
        compare_blocks(options)
    else:
        compare_with_textbook(options)


if __name__ == "__main__":
    main()
