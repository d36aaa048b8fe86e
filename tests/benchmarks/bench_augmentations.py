"""Our batched views against torchvision's transforms, image by image, and kornia's, batched.

    python tests/benchmarks/bench_augmentations.py [--views 512] [--size 32] [--repeats 15]

One thread, in alternating rounds. Prints the milliseconds of processor time that one view takes
(medians; time on the clock would count other work on the machine), and their ratio to ours.
kornia is measured where it is installed; alignctl does not need it.
"""

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from alignctl.config.training_config import AugmentationConfig
from alignctl.datasets.device_crops import crops_of
from alignctl.views.augmentations import draw_boxes, make_views

CONFIG = AugmentationConfig()
JITTER = (CONFIG.brightness, CONFIG.contrast, CONFIG.saturation, CONFIG.hue)


def alignctl_views(images: Tensor) -> Callable[[], object]:
    """Two views of every image (n, H, W, 3) uint8, by us."""
    ids, shape = np.arange(len(images)), (images.shape[1], images.shape[2])

    def work() -> Tensor:
        boxes = draw_boxes(ids, config=CONFIG, seed=0, epoch=0)(slice(None), *shape)
        crops = crops_of(images, boxes)
        return make_views(
            crops, ids, shape=shape, device=images.device, config=CONFIG, seed=0, epoch=0
        )

    return work


def torchvision_views(images: Tensor) -> Callable[[], object]:
    """The same by torchvision, which draws one set of parameters for whatever it is given."""
    planes = images.permute(0, 3, 1, 2).contiguous()
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(planes.shape[2], antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomApply([v2.ColorJitter(*JITTER)], p=CONFIG.jitter_probability),
            v2.RandomGrayscale(CONFIG.grayscale_probability),
            v2.Normalize(CONFIG.mean, CONFIG.std),
        ]
    )
    return lambda: torch.stack([transform(image) for _ in range(2) for image in planes])


def kornia_views(images: Tensor) -> Callable[[], object]:
    """The same by kornia, batched, with parameters for every view."""
    import kornia.augmentation as K

    planes = images.permute(0, 3, 1, 2).contiguous()
    size = (planes.shape[2], planes.shape[3])
    transform = nn.Sequential(
        K.RandomResizedCrop(size, scale=CONFIG.crop_scale, ratio=CONFIG.crop_ratio),
        K.RandomHorizontalFlip(p=CONFIG.flip_probability),
        K.ColorJiggle(*JITTER, p=CONFIG.jitter_probability),
        K.RandomGrayscale(p=CONFIG.grayscale_probability),
        K.Normalize(torch.tensor(CONFIG.mean), torch.tensor(CONFIG.std)),
    )

    def work() -> Tensor:
        with torch.no_grad():
            views: Tensor = transform(torch.cat([planes, planes]).float().div_(255))
            return views

    return work


def medians(works: dict[str, Callable[[], object]], *, num_repeats: int) -> dict[str, float]:
    """Median processor seconds of each, in alternating rounds after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(num_repeats + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return {name: median(durations[1:]) for name, durations in seconds.items()}


def main() -> None:
    """Measure all that are there and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=512)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = (arguments.views // 2, arguments.size, arguments.size, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    works = {
        "alignctl, batched": alignctl_views(images),
        "torchvision v2, one by one": torchvision_views(images),
    }
    if find_spec("kornia"):
        works[f"kornia {version('kornia')}, batched"] = kornia_views(images)
    found = medians(works, num_repeats=arguments.repeats)
    ours = found["alignctl, batched"]
    for name, seconds in found.items():
        per_view = seconds * 1e3 / (2 * len(images))
        print(f"{name:<28}{per_view:.4f} ms per view, {seconds / ours:.1f} times ours")


if __name__ == "__main__":
    main()
