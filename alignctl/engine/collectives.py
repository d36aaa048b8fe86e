"""Sums and gatherings over the processes that share the batches of one group of objectives."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from alignctl.processes import ALONE, Processes

T = TypeVar("T")

# An honest wait for a slower peer may be long; hangs are found by their missing heartbeats
COLLECTIVE_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class ProcessPeers:
    """The processes of a group of torch.distributed; fulfils `Processes`."""

    group: ProcessGroup

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """How many there are."""
        return dist.get_world_size(self.group)

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks, on each; plain picklable values."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, self.group)
        return values

    def gather_tensor(self, share: Tensor, *, dim: int) -> Tensor:
        """All shares, joined along `dim` in the order of ranks, the same on every process.

        share: at least 1-d, of the same shape and dtype everywhere; any dtype. Where it is part of
        a graph, its gradient is the sum over all processes: so every process has to go backwards
        through the result.
        """
        gathered: Tensor = _Gather.apply(share, dim, self)
        return gathered

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over all processes, the same bits on each; does not wait for the device."""
        # One buffer per dtype, laid out by the tensors' order alone. DistributedDataParallel lays
        # its buckets out anew after the first step, so that a resumed run would add up in another
        # order than the run that it goes on with, and end with other bits.
        sums: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = {i: tensor for i, tensor in enumerate(tensors) if tensor.dtype == dtype}
            flat = torch.cat([tensor.detach().flatten() for tensor in alike.values()])
            dist.all_reduce(flat, group=self.group)
            parts = torch.split(flat, [tensor.numel() for tensor in alike.values()])
            sums |= {i: part.view(alike[i].shape) for i, part in zip(alike, parts, strict=True)}
        return [sums[i] for i in range(len(tensors))]


class _Gather(torch.autograd.Function):
    """All-gather; backwards, each process's slice of the summed gradient."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, dim: int, peers: ProcessPeers) -> Tensor:
        ctx.dim, ctx.peers = dim, peers
        own = share.contiguous()
        shares = [torch.empty_like(own) for _ in range(peers.size)]
        dist.all_gather(shares, own, peers.group)
        return torch.cat(shares, dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        peers: ProcessPeers = ctx.peers
        if gradient.is_cuda:
            parts = [part.contiguous() for part in gradient.chunk(peers.size, ctx.dim)]
            own = torch.empty_like(parts[0])
            dist.reduce_scatter(own, parts, group=peers.group)
        else:  # not every supported release of torch has gloo's reduce-scatter
            whole = gradient.clone(memory_format=torch.contiguous_format)
            dist.all_reduce(whole, group=peers.group)
            own = whole.chunk(peers.size, ctx.dim)[peers.rank]
        return own, None, None


def sum_in_place(tensors: Sequence[Tensor], processes: Processes) -> None:
    """Make each tensor its sum over the processes, the same bits on all of them.

    tensors: of any shapes and dtypes, the same in the same order on every process.
    """
    if processes.size > 1 and tensors:
        with torch.no_grad():
            torch._foreach_copy_(list(tensors), processes.sum(tensors))


@dataclass(frozen=True, eq=False)
class Mesh:
    """This process's place where groups of objectives are rows and shares of a batch columns."""

    objective_index: int
    """Which group of objectives this process trains, from 0."""
    num_objective_groups: int
    peers: Processes
    """The processes of the same row."""


ONE_PROCESS = Mesh(0, 1, ALONE)
"""The place of a process without others."""


def make_mesh(device_type: str, num_objective_groups: int, num_shares: int) -> Mesh:
    """The place of this process: rank r stands in row r // num_shares, column r % num_shares.

    To be called by all processes at once; their number is num_objective_groups * num_shares.
    With one share the peers are ALONE, and there is nothing that would communicate.
    """
    assert num_objective_groups * num_shares == dist.get_world_size()
    row = dist.get_rank() // num_shares
    if num_shares == 1:
        return Mesh(row, num_objective_groups, ALONE)
    ranks = torch.arange(num_objective_groups * num_shares).view(num_objective_groups, num_shares)
    # groups that a mesh makes by itself give up after 30 minutes, as in a job that was suspended
    groups = [_own_group(lines.tolist()) for lines in (ranks.T, ranks)]
    names = ("objectives", "data")
    mesh = DeviceMesh.from_group(groups, device_type, mesh=ranks, mesh_dim_names=names)
    return Mesh(row, num_objective_groups, ProcessPeers(mesh.get_group("data")))


def _own_group(all_ranks: list[list[int]]) -> ProcessGroup:
    """The group of those ranks among which this process is; every process makes all groups."""
    own, _ = dist.new_subgroups_by_enumeration(all_ranks, timeout=COLLECTIVE_TIMEOUT)
    assert isinstance(own, ProcessGroup)
    return own
