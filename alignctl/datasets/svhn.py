"""Street View House Numbers, with the extra images that the paper trains on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignctl.config.dataset_configs import SvhnConfig
from alignctl.datasets.source import Source, Split
from alignctl.datasets.torchvision_sets import opened

_IMAGES_AT_A_TIME = 4096  # the whole is nearly 2 GB, which is held twice and not thrice


def svhn_source(config: SvhnConfig, split: Split) -> Source:
    """The digits of one split, 32x32; for training those of `train`, then those of `extra`.

    Ids count through both. Raises as torchvision_source does.
    """
    files = ["train", "extra"] if split == "train" and config.extra else [split]
    parts = [_open(config, name) for name in files]
    return Source(
        labels=np.concatenate([part.labels for part in parts]).astype(np.int64),
        class_names=tuple(map(str, range(10))),
        read=lambda ids: _read([part.data for part in parts], ids),
    )


def _open(config: SvhnConfig, name: str) -> Any:
    from torchvision.datasets import SVHN

    advice = ", or dataset.extra=false to train without it" if name == "extra" else ""
    return opened(
        lambda: SVHN(config.path, split=name, download=config.download),
        f"svhn ({name}_32x32.mat)",
        config.path,
        download=config.download,
        advice=advice,
    )


def _read(parts: list[NDArray[np.uint8]], ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The images (m, 32, 32, 3) of m ids, ascending, from parts (n, 3, 32, 32)."""
    images = np.empty((len(ids), 32, 32, 3), dtype=np.uint8)
    start = 0
    for part in parts:
        begin, end = np.searchsorted(ids, (start, start + len(part)))
        for first in range(begin, end, _IMAGES_AT_A_TIME):
            rows = slice(first, min(first + _IMAGES_AT_A_TIME, end))
            images[rows] = part[ids[rows] - start].transpose(0, 2, 3, 1)
        start += len(part)
    return images
