"""nscl, scl and their gradients, one after the other, in a process of its own.

Prints JSON: the losses, whether the gradients are finite, and the memory in MB that they took.
"""

import json
import re
import resource
import sys
from pathlib import Path

import numpy as np
import torch

from alignctl.objectives import blocks, nscl_loss, scl_loss


def peak_memory() -> float:
    """The largest size that this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin at the size of the process that started this one
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Measure both losses of float32 `views` and `labels` from the .npz file of the argument."""
    torch.set_num_threads(2)
    with np.load(sys.argv[1]) as inputs:
        views = torch.from_numpy(inputs["views"]).requires_grad_()
        labels = torch.from_numpy(inputs["labels"])
    # The first checkpoint of a process imports 150 MB of torch, as optimisers do too.
    usual, blocks.BLOCK_ELEMENTS = blocks.BLOCK_ELEMENTS, 100
    nscl_loss(views[:, :8], labels[:8]).backward()
    blocks.BLOCK_ELEMENTS = usual
    before, losses, finite = peak_memory(), {}, True
    for name, loss in {"nscl": nscl_loss, "scl": scl_loss}.items():
        views.grad = None
        value = loss(views, labels)
        value.backward()
        losses[name] = value.item()
        finite &= bool(views.grad.isfinite().all() and views.grad.any())
    memory = peak_memory() - before
    print(json.dumps({"losses": losses, "finite": finite, "memory_mb": memory}))


if __name__ == "__main__":
    main()
