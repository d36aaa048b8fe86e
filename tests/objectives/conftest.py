import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "losses.json").read_text())


@dataclass(frozen=True)
class GoldenCase:
    """One random input, and what the original study's code returns for it in float64."""

    views: torch.Tensor
    labels: torch.Tensor
    temperature: float
    arrays: dict[str, np.ndarray]

    def check(self, loss: torch.Tensor, name: str, tolerance: float) -> None:
        """Compare a loss of `views`, and its gradient, with the stored ones."""
        (gradient,) = torch.autograd.grad(loss, self.views)
        expected = [self.arrays[f"{name}/grad_z_{view}"] for view in "ij"]
        np.testing.assert_allclose(loss.item(), self.arrays[f"{name}/loss"], atol=tolerance, rtol=0)
        np.testing.assert_allclose(gradient, np.stack(expected), atol=tolerance, rtol=tolerance)


@pytest.fixture(params=CASES, ids=lambda case: f"golden-{case['i']}")
def golden_case(request) -> GoldenCase:
    case = request.param
    prefix = f"{case['i']}/"
    with np.load(GOLDEN / "losses.npz") as stored:
        arrays = {k.removeprefix(prefix): stored[k] for k in stored if k.startswith(prefix)}
    views = torch.from_numpy(np.stack([arrays["z_i"], arrays["z_j"]])).requires_grad_()
    labels = torch.from_numpy(arrays["labels"])
    return GoldenCase(views, labels, case["temperature"], arrays)


@pytest.fixture
def random_views():
    """A function of (seed, batch size, dimension, classes): float64 views and labels."""

    def draw(seed: int, batch_size: int = 5, dim: int = 3, classes: int = 3):
        stream = torch.Generator().manual_seed(seed)
        views = torch.randn(2, batch_size, dim, dtype=torch.float64, generator=stream)
        return views, torch.randint(classes, (batch_size,), generator=stream)

    return draw


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.fixture
def largest_tensor():
    return LargestTensor()
