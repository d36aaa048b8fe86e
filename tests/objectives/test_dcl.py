import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import contrastive_loss

from alignctl.objectives import cl_loss, dcl_loss, nscl_loss


@pytest.mark.parametrize("batch_size", [2, 3, 7])
def test_dcl_matches_its_definition(random_views, batch_size):
    views, _ = random_views(batch_size, batch_size)
    assert dcl_loss(views, 0.3).item() == pytest.approx(
        contrastive_loss("dcl", views, range(batch_size), 0.3), abs=1e-12
    )


def test_dcl_takes_one_half_as_temperature(random_views):
    views, _ = random_views(0)
    assert dcl_loss(views) == dcl_loss(views, 0.5)


def test_dcl_of_one_image_is_zero_with_a_warning(random_views):
    views, _ = random_views(0, 1)
    views.requires_grad_()
    with pytest.warns(RuntimeWarning, match="no anchor of the batch has a negative"):
        loss = dcl_loss(views)
    loss.backward()
    assert loss.item() == 0
    assert views.grad.eq(0).all()


def test_dcl_is_below_cl(random_views):
    views, _ = random_views(0, 16)
    assert dcl_loss(views) < cl_loss(views)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(lambda x: len(set(x)) > 1),
    temperature=st.floats(0.05, 5),
)
def test_the_gap_between_dcl_and_nscl_is_within_its_bound(seed, labels, temperature):
    stream = torch.Generator().manual_seed(seed)
    views = torch.randn(2, len(labels), 3, dtype=torch.float64, generator=stream)
    dcl = dcl_loss(views, temperature)
    nscl = nscl_loss(views, torch.tensor(labels), temperature, positive_in_denominator=False)
    bounds = []
    for label in labels:
        same = 2 * (labels.count(label) - 1)
        different = 2 * (len(labels) - labels.count(label))
        bounds.append(math.log1p(same * math.exp(2 / temperature) / different))
    assert -1e-12 <= (dcl - nscl).item() <= sum(bounds) / len(bounds) + 1e-12
