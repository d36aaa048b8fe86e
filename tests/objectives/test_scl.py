import pytest
import torch
from references import contrastive_loss

from alignctl.objectives import cl_loss, scl_loss


def test_scl_matches_the_original(golden_case):
    loss = scl_loss(golden_case.views, golden_case.labels, golden_case.temperature)
    golden_case.check(loss, "scl", 1e-6)


@pytest.mark.parametrize("labels", [[0], [0, 0], [0, 0, 0, 1], [2, 0, 1], [7, 7, 3, 3, 3, 9]])
def test_scl_matches_its_definition(random_views, labels):
    views, _ = random_views(0, len(labels))
    loss = scl_loss(views, torch.tensor(labels), 0.3)
    assert loss.item() == pytest.approx(contrastive_loss("scl", views, labels, 0.3), abs=1e-12)


def test_scl_takes_one_half_as_temperature(random_views):
    views, labels = random_views(0)
    assert scl_loss(views, labels) == scl_loss(views, labels, 0.5)


def test_scl_is_cl_where_every_image_has_a_class_of_its_own(random_views):
    views, _ = random_views(0, 6)
    torch.testing.assert_close(scl_loss(views, torch.arange(6)), cl_loss(views))
