"""scikit-learn's handwritten digits, which come with the library."""

import numpy as np

from alignctl.config.dataset_configs import DigitsConfig
from alignctl.datasets.source import Source, Split

# The last ones: the images come writer by writer, a random split would put one hand in both.
_NUM_TEST_IMAGES = 360
_LARGEST_VALUE = 16


def digits_source(config: DigitsConfig, split: Split) -> Source:
    """The 1,437 training or 360 test images: 8x8, grey in all three channels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = slice(-_NUM_TEST_IMAGES) if split == "train" else slice(-_NUM_TEST_IMAGES, None)
    gray = np.rint(digits.images[rows] * (255 / _LARGEST_VALUE)).astype(np.uint8)
    return Source(
        labels=digits.target[rows].astype(np.int64),
        class_names=tuple(str(name) for name in digits.target_names),
        read=lambda ids: np.repeat(gray[ids, :, :, None], 3, axis=3),
    )
