"""How many images a second a study trains on, and what its epochs would take: random images.

    python tests/benchmarks/bench_training.py STUDY [KEY=VALUE]... --image-size 224 --images 50000

One process, its GPU where there is one, with the repeatable kernels that training asks for
(--any-kernels: without). For each objective alone, and for the views, the median
seconds of a step and the peak memory; then the hours that all epochs of all objectives take here.
Nothing is read or saved; reading from disk, saving and evaluating come on top.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch

from alignctl.config import StudyConfig
from alignctl.config.load import load_study
from alignctl.datasets.device_crops import crops_of
from alignctl.objectives import ViewBatch
from alignctl.training.cohort import build_member
from alignctl.training.trainer import ask_for_repeatable_kernels
from alignctl.views.augmentations import draw_boxes, make_views


def random_images(study: StudyConfig, size: int, device: torch.device) -> torch.Tensor:
    """One batch of images (B, H, W, 3) uint8."""
    shape = study.training.batch_size, size, size, 3
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


def make_batch(study: StudyConfig, images: torch.Tensor, num_classes: int) -> ViewBatch:
    """Two views of every image, with random labels."""
    ids, shape = np.arange(len(images)), (images.shape[1], images.shape[2])
    drawn = {"config": study.augmentation, "seed": 0, "epoch": 0}
    crops = crops_of(images, draw_boxes(ids, **drawn)(slice(None), *shape))
    views = make_views(crops, ids, shape=shape, device=images.device, **drawn)
    labels = torch.randint(0, num_classes, (len(images),), device=images.device)
    return ViewBatch(images=views, labels=labels, ids=torch.from_numpy(ids).to(images.device))


def timed(action: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median seconds of an action, after two to warm up."""
    return median(list(_seconds(action, repeats + 2, device))[2:])


def _seconds(action: Callable[[], object], repeats: int, device: torch.device) -> Iterator[float]:
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        yield time.perf_counter() - start


def peak_gib(device: torch.device) -> str:
    """Peak memory on a GPU since it was last asked, in GiB."""
    if device.type != "cuda":
        return "-"
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return f"{peak:.1f}"


def _printed(name: str, seconds: float, device: torch.device, num_images: int) -> float:
    rate = num_images / seconds
    print(f"{name:8} {seconds:8.4f} {rate:9.0f} {peak_gib(device):>9}", flush=True)
    return seconds


def main() -> None:
    """Print the table of one study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=50_000, help="of one epoch")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--any-kernels", action="store_true")
    options = parser.parse_intermixed_args()
    study = load_study(options.study, options.overrides)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    if device.type == "cuda" and not options.any_kernels:
        ask_for_repeatable_kernels(study)
    images = random_images(study, options.image_size, device)
    batch = make_batch(study, images, options.classes)
    kernels = "any" if options.any_kernels else "repeatable"
    print(
        f"{study.name}, {options.image_size}px, batch {len(images)}, {study.training.precision}, "
        f"{kernels} kernels, {name}, torch {torch.__version__}"
    )
    print(f"{'':8} {'s/step':>8} {'images/s':>9} {'peak GiB':>9}")
    views = timed(lambda: make_batch(study, images, options.classes), options.repeats, device)
    steps = {"views": _printed("views", views, device, len(images))}
    for config in study.objectives:
        member = build_member(study, config, num_classes=options.classes, device=device)
        seconds = timed(
            lambda member=member: member.step(batch, learning_rate=0.1, clip_norm=1.0),
            options.repeats,
            device,
        )
        steps[config.name] = _printed(config.name, seconds, device, len(images))
        del member
    steps["all"] = _printed("all", sum(steps.values()), device, len(images))
    epoch = steps["all"] * (options.images // len(images))
    hours = epoch * study.training.epochs / 3600
    print(f"an epoch of {options.images:,} images: {epoch:.1f} s; "
          f"{study.training.epochs} epochs: {hours:.1f} h")  # fmt: skip


if __name__ == "__main__":
    main()
