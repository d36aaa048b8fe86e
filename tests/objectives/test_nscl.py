import pytest
import torch
from references import contrastive_loss

from alignctl.objectives import cl_loss, dcl_loss, nscl_loss


def test_nscl_matches_the_original(golden_case):
    loss = nscl_loss(golden_case.views, golden_case.labels, golden_case.temperature)
    golden_case.check(loss, "nscl", 1e-9)


@pytest.mark.parametrize("positive_in_denominator", [True, False])
@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 0, 1], [2, 0, 1], [7, 7, 3, 3, 3, 9]])
def test_nscl_matches_its_definition(random_views, labels, positive_in_denominator):
    views, _ = random_views(0, len(labels))
    loss = nscl_loss(views, torch.tensor(labels), 0.3, positive_in_denominator)
    name = "nscl" if positive_in_denominator else "nscl_without_positive"
    expected = contrastive_loss(name, views, labels, 0.3)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_nscl_takes_one_half_as_temperature(random_views):
    views, labels = random_views(0)
    assert nscl_loss(views, labels) == nscl_loss(views, labels, 0.5)


def test_nscl_of_one_class_is_zero_by_definition(random_views):
    views, _ = random_views(0, 4)
    views.requires_grad_()
    loss = nscl_loss(views, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 == contrastive_loss("nscl", views, [0, 0, 0, 0], 0.5)
    assert views.grad.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_nscl_without_any_negative_is_zero_with_a_warning(random_views, dtype):
    views = random_views(0, 4)[0].to(dtype).requires_grad_()
    with pytest.warns(RuntimeWarning, match="no anchor of the batch has a negative"):
        loss = nscl_loss(views, torch.zeros(4, dtype=torch.long), positive_in_denominator=False)
    loss.backward()
    assert loss.item() == 0
    assert views.grad.eq(0).all()


def test_nscl_is_cl_or_dcl_where_every_image_has_a_class_of_its_own(random_views):
    views, _ = random_views(0, 6)
    assert nscl_loss(views, torch.arange(6)) == cl_loss(views)
    assert nscl_loss(views, torch.arange(6), positive_in_denominator=False) == dcl_loss(views)


def test_nscl_depends_on_which_labels_agree_and_not_on_their_values(random_views):
    views, _ = random_views(0, 4)
    first, second = torch.tensor([0, 1, 1, 2]), torch.tensor([-5, 9, 9, 0], dtype=torch.int16)
    assert nscl_loss(views, first) == nscl_loss(views, second)
