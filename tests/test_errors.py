import numpy as np
import pytest
import torch

from alignctl.errors import OutOfMemoryError, out_of_memory

TOO_LARGE = 2**58


def failure_of(work):
    with pytest.raises(Exception) as caught:
        work()
    return caught.value


@pytest.mark.parametrize(
    ("work", "size"),
    [
        (lambda: torch.empty(TOO_LARGE), "1073741824.0 GiB"),
        (lambda: np.empty(TOO_LARGE), "2.00 EiB"),
        (lambda: bytearray(TOO_LARGE), None),
    ],
    ids=["torch", "numpy", "python"],
)
def test_failed_allocation_is_recognised_with_its_size(work, size):
    found = out_of_memory(failure_of(work))
    assert isinstance(found, OutOfMemoryError)
    wanted = f": {size} could not be allocated" if size else ""
    assert str(found) == f"not enough memory{wanted}"


def test_failed_allocation_of_a_gpu_is_recognised():
    text = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB"
    found = out_of_memory(torch.OutOfMemoryError(text))
    assert str(found) == "not enough memory on the GPU: 20.00 GiB could not be allocated"


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory")])
def test_other_errors_are_left_alone(error):
    assert out_of_memory(error) is None
