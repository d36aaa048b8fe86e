"""Matrix products in the precision that they are written in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def plain_float32(device_type: str) -> Iterator[None]:
    """Autocast, TF32 and bfloat16 products off inside, and as they were afterwards."""
    backends: list[Any] = [
        getattr(module, "matmul", None) for module in (torch.backends.cuda, torch.backends.mkldnn)
    ]
    with torch.autocast(device_type, enabled=False):
        if not all(hasattr(backend, "fp32_precision") for backend in backends):  # torch < 2.9
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)
            return
        # Per backend: the global getter fails where a program has used these settings itself.
        previous = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, previous, strict=True):
                backend.fp32_precision = precision
