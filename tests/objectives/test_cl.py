import math

import pytest
import torch
from references import contrastive_loss

from alignctl.objectives import cl_loss


def test_cl_matches_the_original_ntxent(golden_case):
    golden_case.check(cl_loss(golden_case.views, golden_case.temperature), "ntxent", 1e-9)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_cl_matches_its_definition(random_views, batch_size):
    views, _ = random_views(batch_size, batch_size)
    assert cl_loss(views, 0.3).item() == pytest.approx(
        contrastive_loss("cl", views, range(batch_size), 0.3), abs=1e-12
    )


def test_cl_takes_one_half_as_temperature(random_views):
    views, _ = random_views(0)
    assert cl_loss(views) == cl_loss(views, 0.5)


def test_cl_of_identical_views_is_the_log_of_the_number_of_candidates():
    # The positive and the 2 (B - 1) views of other images are all equally close.
    assert cl_loss(torch.ones(2, 6, 4)).item() == pytest.approx(math.log(11))


def test_cl_stays_exact_where_the_positive_stands_out():
    views = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    loss = cl_loss(views, 0.01).item()
    assert loss == pytest.approx(2 * math.exp(-100), rel=1e-12, abs=0)
