"""Images that are not in memory: our decoding processes against torchvision's usual DataLoader.

    python tests/benchmarks/bench_streaming.py [--images 256] [--batch 64] [--repeats 3]

Writes photo-like JPEGs of 500x375, then reads each once for two views of 224x224. `crops`: two
random crops as uint8, all that a GPU leaves to the host; `views`: with flips and colours and
normalised, which we compute in this process with one thread and torchvision in its workers. 0, 1
and 2 workers on both sides, in alternating rounds; starting the workers counts. Prints images per
second (medians) and our ratio to torchvision's.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from alignctl.config import StudyConfig
from alignctl.config.load import load_study
from alignctl.datasets.decoding_ahead import decoded_ahead
from alignctl.datasets.streamed import StreamedCrops, decode_crops
from alignctl.training.data import load_training_data
from alignctl.views.augmentations import draw_boxes

SIZE = 224
WORKERS = (0, 1, 2)


def write_photos(root: Path, num_images: int) -> None:
    """Half of them of each of two classes; the test split has one of each."""
    stream = np.random.default_rng(0)
    for split, count in (("train", num_images // 2), ("test", 1)):
        for name in ("ant", "bee"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                coarse = stream.integers(256, size=(60, 80, 3), dtype=np.uint8)
                smooth = np.asarray(Image.fromarray(coarse).resize((500, 375)), dtype=np.int64)
                grain = stream.integers(-12, 13, smooth.shape)
                photo = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
                photo.save(folder / f"{number}.jpg", quality=85)


def study_of(root: Path, *, batch_size: int, workers: int) -> StudyConfig:
    """A study on these images, of which only the data count."""
    dataset = f"{{name: image_folder, path: {root}, image_size: {SIZE}, in_memory: false}}"
    return load_study(
        None,
        [f"dataset={dataset}", f"dataset.workers={workers}", f"training.batch_size={batch_size}"],
    )


def our_crops(study: StudyConfig) -> Callable[[], int]:
    """The crops of one epoch, in memory of this process."""
    data = load_training_data(study, torch.device("cpu"))
    assert isinstance(data.images, StreamedCrops)
    images = data.images.images
    boxes = partial(draw_boxes, config=study.augmentation, seed=study.seed, epoch=0)
    batches = list(data.ids.reshape(-1, study.training.batch_size))

    def work() -> int:
        crops = decoded_ahead(
            batches,
            decode_crops(images, boxes),
            shape=(2, SIZE, SIZE, 3),
            take=lambda ids, pixels: torch.from_numpy(pixels).clone(),
            num_processes=images.workers or 0,
        )
        return sum(len(batch) for batch in crops)

    return work


def our_views(study: StudyConfig) -> Callable[[], int]:
    """The batches of one epoch."""
    data = load_training_data(study, torch.device("cpu"))
    return lambda: sum(batch.images.shape[1] for batch in data.batches(0))


class TwoViews:
    """A transform that is applied twice to the same decoded image."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.stack([self.transform(image), self.transform(image)])


def torchvision_epoch(
    root: Path, transform: Callable[[Image.Image], Tensor], *, batch_size: int, workers: int
) -> Callable[[], int]:
    """The batches of one epoch by ImageFolder and DataLoader."""
    images = ImageFolder(str(root / "train"), TwoViews(transform))
    loader = DataLoader(images, batch_size, shuffle=True, drop_last=True, num_workers=workers)
    return lambda: sum(len(batch) for batch, _ in loader)


def transform_to(kind: str, study: StudyConfig) -> Callable[[Image.Image], Tensor]:
    """torchvision's transforms, as they are usually written, for crops or whole views."""
    config = study.augmentation
    crop = transforms.RandomResizedCrop(SIZE)
    if kind == "crops":
        return transforms.Compose([crop, transforms.PILToTensor()])
    jitter = transforms.ColorJitter(
        config.brightness, config.contrast, config.saturation, config.hue
    )
    return transforms.Compose(
        [
            crop,
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply(nn.ModuleList([jitter]), p=config.jitter_probability),
            transforms.RandomGrayscale(config.grayscale_probability),
            transforms.ToTensor(),
            transforms.Normalize(config.mean, config.std),
        ]
    )


def medians(works: dict[str, Callable[[], int]], *, num_repeats: int) -> dict[str, float]:
    """Median images per second of each, in alternating rounds after one that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(num_repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            num_images = work()
            rates[name].append(num_images / (time.perf_counter() - start))
    return {name: median(found[1:]) for name, found in rates.items()}


def main() -> None:
    """Measure both sides and print one line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch_size = arguments.batch
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_photos(root, arguments.images)
        for kind, ours in (("crops", our_crops), ("views", our_views)):
            for workers in WORKERS:
                study = study_of(root, batch_size=batch_size, workers=workers)
                transform = transform_to(kind, study)
                works = {
                    "ours": ours(study),
                    "theirs": torchvision_epoch(
                        root, transform, batch_size=batch_size, workers=workers
                    ),
                }
                found = medians(works, num_repeats=arguments.repeats)
                print(
                    f"{kind}, {workers} workers: alignctl {found['ours']:.0f} images/s, torchvision"
                    f" {found['theirs']:.0f}, {found['ours'] / found['theirs']:.2f} times"
                )


if __name__ == "__main__":
    main()
