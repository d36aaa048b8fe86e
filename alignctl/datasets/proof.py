"""The digest by which images and labels are known again."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sha256_of(*parts: NDArray[Any] | bytes) -> str:
    """SHA-256 of arrays, in the order of their elements, and of bytes, one after the other."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return total.hexdigest()
