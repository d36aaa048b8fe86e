"""The digest by which images and labels are known again."""

import hashlib

import numpy as np

from alignctl.datasets.source import EncodedImageSet, ImageSet


def data_digest(found: ImageSet | EncodedImageSet) -> str:
    """SHA-256 of images, labels and ids, wherever they were read from.

    Of images that are not in memory: of labels, ids, the names of classes, and the names of files
    or the sizes of images.
    """
    total = hashlib.sha256()
    if isinstance(found, ImageSet):
        total.update(np.ascontiguousarray(found.images).data)
    for array in (found.labels, found.ids):
        total.update(np.ascontiguousarray(array).data)
    if isinstance(found, EncodedImageSet):
        total.update("\0".join(found.class_names).encode())
        total.update(found.marks)
    return total.hexdigest()
