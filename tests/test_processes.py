import subprocess
import sys

import pytest
import torch

from alignctl.processes import ALONE, Alone, share_of


@pytest.mark.parametrize("total", [0, 1, 5, 16])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_the_parts_are_all_items_in_order_and_none_twice(total, size):
    parts = [range(total)[share_of(total, Alone(rank, size))] for rank in range(size)]
    assert [item for part in parts for item in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_has_the_sums_and_shares_of_all():
    tensors = (torch.ones(2), torch.tensor(3))
    assert all(ours is given for ours, given in zip(ALONE.sum(tensors), tensors, strict=True))
    assert ALONE.gather_tensor(tensors[0], dim=0) is tensors[0]
    assert ALONE.gather({"a": 1}) == [{"a": 1}]
    assert (ALONE.rank, ALONE.size) == (0, 1)


def test_the_protocol_imports_no_torch():
    code = "import sys, alignctl.processes; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
