"""Collectives in real processes: 1, 2 and 4 of them, against the same on all data in one."""

import collective_workers as workers
import numpy as np
import pytest
import torch

from alignctl.engine.collectives import make_mesh, sum_in_place
from alignctl.processes import ALONE


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda number: f"{number}-processes")
def found(request, pool):
    """What each process returned, in the order of ranks."""
    return pool.launch(workers.collect, None, size=request.param)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", workers.DTYPES, ids=str)
def test_every_process_gathers_all_shares_in_the_order_of_ranks(found, dtype, dim):
    shares = [workers.share(rank, dtype) for rank in range(len(found))]
    whole = workers.plain(torch.cat(shares, dim))
    for worker in found:
        np.testing.assert_array_equal(worker["gathered"][str(dtype), dim], whole)


def test_a_share_that_is_not_contiguous_is_gathered_as_it_reads(found):
    shares = [workers.share(rank).transpose(0, 2) for rank in range(len(found))]
    for worker in found:
        np.testing.assert_array_equal(worker["gathered"]["turned", 1], torch.cat(shares, 1))


@pytest.mark.parametrize("dim", [0, 1])
def test_a_shares_gradient_is_that_of_the_sum_of_all_parts_of_the_loss(found, dim):
    size = len(found)
    whole = torch.cat([workers.share(rank) for rank in range(size)], dim).requires_grad_()
    sum(workers.part_of_loss(whole, rank, dim, size) for rank in range(size)).backward()
    ours = np.concatenate([worker["gradients"][dim] for worker in found], dim)
    np.testing.assert_allclose(ours, whole.grad, rtol=0, atol=1e-12 * whole.grad.abs().max())


def test_gathering_without_a_gradient_makes_no_graph(found):
    assert all(worker["without_graph"] == [False, False] for worker in found)


def test_tensors_become_their_sums_in_place_whatever_their_shape_and_dtype(found):
    each = [[workers.plain(t) for t in workers.summands(rank)] for rank in range(len(found))]
    for worker in found:
        for ours, parts in zip(worker["sums"], zip(*each, strict=True), strict=True):
            np.testing.assert_array_equal(ours, sum(parts))


def test_values_are_gathered_in_the_order_of_ranks(found):
    for worker in found:
        assert worker["values"] == [f"rank {rank}" for rank in range(len(found))]


def test_sums_have_the_same_bits_on_every_process(found):
    assert len({worker["fractions"] for worker in found}) == 1


def test_nothing_is_summed_for_a_process_that_is_alone():
    tensors = workers.summands(1)
    sum_in_place(tensors, ALONE)
    for ours, expected in zip(tensors, workers.summands(1), strict=True):
        assert torch.equal(ours, expected)


def test_rank_r_stands_in_row_r_div_shares_and_column_r_mod_shares(found):
    for groups, shares in workers.LAYOUTS[len(found)]:
        for rank, worker in enumerate(found):
            row, column = divmod(rank, shares)
            ranks = list(range(row * shares, (row + 1) * shares))
            assert worker["meshes"][groups, shares] == {
                "objective_index": row,
                "num_objective_groups": groups,
                "rank": column,
                "size": shares,
                "row": [rank] if shares == 1 else ranks,
                "sum": sum(ranks),
                "alone": shares == 1,
                "timeout_s": None if shares == 1 else 86400,  # an honest wait may take a day
            }


def test_a_mesh_that_leaves_processes_over_is_refused(one_process):
    with pytest.raises(AssertionError):
        make_mesh("cpu", 2, 1)
