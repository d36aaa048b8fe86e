import numpy as np
from sklearn.datasets import load_digits

from alignctl.config.dataset_configs import DigitsConfig
from alignctl.datasets import load_images


def test_the_splits_are_the_first_1437_and_the_last_360_images():
    digits = load_digits()
    train, test = (load_images(DigitsConfig(), split) for split in ("train", "test"))
    assert train.images.shape == (1437, 8, 8, 3)
    assert test.images.shape == (360, 8, 8, 3)
    assert train.images.dtype == np.uint8
    assert np.array_equal(np.concatenate((train.labels, test.labels)), digits.target)
    assert test.ids.tolist() == list(range(360))
    assert train.class_names == tuple("0123456789")
    images = np.concatenate((train.images, test.images))
    for channel in range(3):
        assert np.array_equal(images[..., channel], np.round(digits.images * 255 / 16))


def test_values_span_black_to_white():
    images = load_images(DigitsConfig(), "train").images
    assert images.min() == 0
    assert images.max() == 255


def test_a_choice_of_classes_and_images():
    chosen = load_images(DigitsConfig(classes=3, images_per_class=5), "train")
    assert np.bincount(chosen.labels).tolist() == [5, 5, 5]
    whole = load_images(DigitsConfig(), "train")
    assert np.array_equal(chosen.images, whole.images[chosen.ids])
