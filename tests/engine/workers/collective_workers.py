"""A worker for the tests of collectives, in a module that started processes can import."""

from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from alignctl.engine.collectives import ProcessPeers, make_mesh, sum_in_place
from alignctl.engine.context import WorkerContext
from alignctl.processes import ALONE

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.int64)
SHAPE = (3, 4, 2)
LAYOUTS = {1: [(1, 1)], 2: [(1, 2), (2, 1)], 4: [(1, 4), (2, 2), (4, 1)]}
"""By the number of processes: (groups of objectives, shares of a batch)."""


def share(rank: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Data that differs per rank in place and scale; small integers, exact in every dtype."""
    stream = torch.Generator().manual_seed(rank)
    return (torch.randint(-9, 9, SHAPE, generator=stream) * (1 + 4 * rank) + 3 * rank).to(dtype)


def coefficients(rank: int, dim: int, num_processes: int) -> Tensor:
    """What makes the part of a loss differ per rank, in the shape of all shares joined."""
    shape = list(SHAPE)
    shape[dim] *= num_processes
    stream = torch.Generator().manual_seed(100 + rank)
    return torch.randn(shape, dtype=torch.float64, generator=stream) * 5.0**rank


def part_of_loss(whole: Tensor, rank: int, dim: int, num_processes: int) -> Tensor:
    return (coefficients(rank, dim, num_processes) * torch.sin(whole)).sum()


def summands(rank: int) -> list[Tensor]:
    """Tensors of several shapes, dtypes and memory formats."""
    stream = torch.Generator().manual_seed(rank)
    shapes = [(2, 3), (), (5,), (2, 3, 4, 5), (1, 7), (0,)]
    whole = [torch.randint(-99, 99, s, generator=stream) * (1 + 4 * rank) for s in shapes]
    dtypes = [torch.float32, torch.float64, torch.float32, torch.float32, torch.int64] * 2
    tensors = [tensor.to(dtype) for tensor, dtype in zip(whole, dtypes, strict=False)]
    tensors[0] = tensors[0].T
    tensors[3] = tensors[3].to(memory_format=torch.channels_last)
    tensors[2].requires_grad_()
    return tensors


def collect(context: WorkerContext, payload: None) -> dict:
    """What this worker's collectives return."""
    return {
        "gathered": gathered(context.rank),
        "gradients": {dim: gradient(context, dim) for dim in (0, 1)},
        "without_graph": without_graph(context.rank),
        "sums": sums(context.rank),
        "values": peers().gather(f"rank {context.rank}"),
        "fractions": fractions(context.rank),
        "meshes": {shape: place(shape) for shape in LAYOUTS[context.size]},
    }


def peers() -> ProcessPeers:
    assert dist.group.WORLD is not None
    return ProcessPeers(dist.group.WORLD)


def plain(tensor: Tensor) -> np.ndarray:
    """The values in float64, which holds those of every other dtype here."""
    return tensor.detach().double().numpy()


def gathered(rank: int) -> dict:
    found = {}
    for dtype in DTYPES:
        for dim in (0, 1):
            whole = peers().gather_tensor(share(rank, dtype), dim=dim)
            assert whole.dtype == dtype and whole.is_contiguous()
            found[str(dtype), dim] = plain(whole)
    turned = share(rank).transpose(0, 2)
    found["turned", 1] = plain(peers().gather_tensor(turned, dim=1))
    return found


def gradient(context: WorkerContext, dim: int) -> np.ndarray:
    own = share(context.rank).requires_grad_()
    whole = peers().gather_tensor(own, dim=dim)
    part_of_loss(whole, context.rank, dim, context.size).backward()
    assert own.grad is not None
    return plain(own.grad)


def without_graph(rank: int) -> list[bool]:
    """Whether results that have nothing to derive belong to a graph."""
    own = share(rank).requires_grad_()
    with torch.no_grad():
        first = peers().gather_tensor(own, dim=0)
    return [first.requires_grad, peers().gather_tensor(own.detach(), dim=0).requires_grad]


def sums(rank: int) -> list[np.ndarray]:
    tensors = summands(rank)
    before = [(tensor.data_ptr(), tensor.stride(), tensor.dtype) for tensor in tensors]
    sum_in_place(tensors, peers())
    assert before == [(tensor.data_ptr(), tensor.stride(), tensor.dtype) for tensor in tensors]
    return [plain(tensor) for tensor in tensors]


def fractions(rank: int) -> bytes:
    """The bits of sums whose rounding depends on the order in which they are added up."""
    stream = torch.Generator().manual_seed(rank)
    tensor = torch.randn(1000, generator=stream) * 5.0**rank
    sum_in_place([tensor], peers())
    return tensor.numpy().tobytes()


def timeout_of(group: dist.ProcessGroup) -> timedelta:
    return group._get_backend(torch.device("cpu")).options._timeout


def place(shape: tuple[int, int]) -> dict:
    """What this process is told of its place, and the ranks that it finds in its row."""
    mesh = make_mesh("cpu", *shape)
    rank = torch.tensor([dist.get_rank()])
    total = rank.clone()
    sum_in_place([total], mesh.peers)
    return {
        "objective_index": mesh.objective_index,
        "num_objective_groups": mesh.num_objective_groups,
        "rank": mesh.peers.rank,
        "size": mesh.peers.size,
        "row": mesh.peers.gather_tensor(rank, dim=0).tolist(),
        "sum": total.item(),
        "alone": mesh.peers is ALONE,
        "timeout_s": None if mesh.peers is ALONE else timeout_of(mesh.peers.group).total_seconds(),
    }
