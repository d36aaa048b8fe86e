"""Our batched views against torchvision's transforms, image by image.

    python tests/benchmarks/bench_augmentations.py [--views 512] [--size 32]

One thread. Prints the milliseconds that one view takes either way (medians), and their ratio.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torchvision.transforms import v2

from alignctl.augmentations import make_views
from alignctl.config.training import AugmentationConfig


def time_per_view(work: Callable[[], object], *, num_views: int, num_repeats: int) -> float:
    """Median milliseconds per view of `work`, after one call that does not count."""
    work()
    durations = []
    for _ in range(num_repeats):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return median(durations) * 1e3 / num_views


def main() -> None:
    """Measure both and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=512)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = AugmentationConfig()
    shape = (arguments.views // 2, arguments.size, arguments.size, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    planes = images.permute(0, 3, 1, 2).contiguous()
    ids = np.arange(len(images))
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(arguments.size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.Normalize(config.mean, config.std),
        ]
    )
    ours = time_per_view(
        lambda: make_views(images, ids, config=config, seed=0, epoch=0),
        num_views=2 * len(images),
        num_repeats=15,
    )
    theirs = time_per_view(
        lambda: torch.stack([transform(image) for _ in range(2) for image in planes]),
        num_views=2 * len(images),
        num_repeats=3,
    )
    print(
        f"alignctl, batched        {ours:.4f} ms per view ({ours * arguments.views:.1f} ms in all)"
    )
    print(f"torchvision, one by one  {theirs:.4f} ms per view")
    print(f"ratio                    {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
