import pytest
import torch
from references import cross_entropy
from torch.nn.functional import normalize

from alignctl.objectives import ce_loss


def test_ce_matches_the_original(golden_case):
    classifier = torch.from_numpy(golden_case.arrays["classifier_weight"])
    golden_case.check(ce_loss(golden_case.views @ classifier.T, golden_case.labels), "ce", 1e-9)


@pytest.mark.parametrize("labels", [[0], [1, 1], [2, 0, 1, 1]])
def test_ce_matches_its_definition(random_views, labels):
    logits, _ = random_views(0, len(labels), 3)
    loss = ce_loss(logits, torch.tensor(labels))
    assert loss.item() == pytest.approx(cross_entropy(logits, labels), abs=1e-12)


def test_ce_takes_labels_of_any_integer_type(random_views):
    logits, labels = random_views(0)
    assert ce_loss(logits, labels.to(torch.uint8)) == ce_loss(logits, labels)


def test_ce_is_invariant_to_swapping_views_and_to_the_order_of_images(random_views):
    logits, labels = random_views(0, 6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ce_loss(logits.flip(0), labels), ce_loss(logits, labels))
    torch.testing.assert_close(ce_loss(logits[:, order], labels[order]), ce_loss(logits, labels))


def test_ce_gradient_is_right(random_views):
    logits, labels = random_views(0)
    assert torch.autograd.gradcheck(lambda x: ce_loss(x, labels), logits.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ce_of_half_logits_is_computed_in_float32(random_views, dtype):
    logits, labels = random_views(0)
    logits = normalize(logits, dim=-1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ce_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ce_loss(logits.float(), labels), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 3), (2, 0, 3), (2, 4, 0), (1, 2, 4, 3)])
def test_ce_refuses_logits_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"logits: expected the shape \(2, B, C\), got"):
        ce_loss(torch.zeros(shape), torch.zeros(4, dtype=torch.long))


def test_ce_refuses_integer_logits():
    with pytest.raises(ValueError, match=r"logits: expected floating-point numbers, got torch"):
        ce_loss(torch.zeros(2, 4, 3, dtype=torch.long), torch.zeros(4, dtype=torch.long))


def test_ce_refuses_labels_of_another_shape():
    with pytest.raises(ValueError, match=r"labels: expected the shape \(4,\)"):
        ce_loss(torch.zeros(2, 4, 3), torch.zeros(8, dtype=torch.long))


@pytest.mark.parametrize("label", [-100, -1, 3])
def test_ce_refuses_labels_that_are_not_classes(label):
    with pytest.raises(ValueError, match=r"labels: must lie in \[0, 3\)"):
        ce_loss(torch.zeros(2, 2, 3), torch.tensor([0, label]))
