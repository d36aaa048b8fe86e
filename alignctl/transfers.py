"""From arrays on the host to tensors on a device, without waiting for the device."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device, without waiting; on a CPU it keeps the array's memory."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":  # a copy from pageable memory would make the host wait
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
