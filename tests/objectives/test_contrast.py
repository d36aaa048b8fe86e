"""What holds for every contrastive loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from alignctl.objectives import ce_loss, cl_loss, dcl_loss, nscl_loss, scl_loss


def nscl_without_positive(views, labels, temperature=0.5):
    return nscl_loss(views, labels, temperature, positive_in_denominator=False)


LOSSES = {
    "cl": lambda views, labels, temperature=0.5: cl_loss(views, temperature),
    "dcl": lambda views, labels, temperature=0.5: dcl_loss(views, temperature),
    "nscl": nscl_loss,
    "nscl_without_positive": nscl_without_positive,
    "scl": scl_loss,
}
LABELLED = [nscl_loss, nscl_without_positive, scl_loss]

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
batches = given(
    seed=st.integers(0, 2**32),
    labels=st.lists(st.integers(0, 2), min_size=0, max_size=7).map(lambda rest: [0, 1, *rest]),
    temperature=st.floats(0.05, 5),
)


def draw(seed, labels):
    stream = torch.Generator().manual_seed(seed)
    views = torch.randn(2, len(labels), 4, dtype=torch.float64, generator=stream)
    return views, torch.tensor(labels), stream


@every_loss
@settings(max_examples=20, deadline=None)
@batches
def test_the_order_of_views_and_images_does_not_matter(loss, seed, labels, temperature):
    views, labels, stream = draw(seed, labels)
    order = torch.randperm(len(labels), generator=stream)
    expected = loss(views, labels, temperature)
    torch.testing.assert_close(loss(views.flip(0), labels, temperature), expected)
    torch.testing.assert_close(loss(views[:, order], labels[order], temperature), expected)


@every_loss
@settings(max_examples=20, deadline=None)
@batches
def test_the_length_of_a_view_does_not_matter(loss, seed, labels, temperature):
    views, labels, stream = draw(seed, labels)
    lengths = torch.rand(2, len(labels), 1, dtype=torch.float64, generator=stream) + 0.1
    scaled = loss(1e3 * lengths * views, labels, temperature)
    torch.testing.assert_close(scaled, loss(views, labels, temperature))


@every_loss
@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 1, 2]])
def test_the_gradient_is_right(loss, labels):
    views, labels, _ = draw(0, labels)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, 0.7), views.requires_grad_())


@every_loss
@pytest.mark.parametrize("temperature", [0.01, 100.0])
@pytest.mark.filterwarnings("ignore:no anchor of the batch has a negative")
def test_the_gradient_is_finite_in_a_batch_of_one_class(loss, temperature):
    views = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = loss(views, torch.ones(6, dtype=torch.long), temperature)
    value.backward()
    assert value.isfinite()
    assert views.grad.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_loss_is_computed_in_float32_even_under_autocast(loss, dtype):
    views, labels, _ = draw(0, [0, 1, 1, 2])
    views = views.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(views, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert views.grad.dtype == dtype
    torch.testing.assert_close(value, loss(views.float(), labels), rtol=0, atol=0)
    exact = loss(views.double(), labels).float()
    torch.testing.assert_close(value, exact, rtol=1e-6, atol=1e-6)


@every_loss
def test_the_loss_of_float64_views_is_float64_and_0d(loss):
    views, labels, _ = draw(0, [0, 1, 1, 2])
    value = loss(views, labels)
    assert value.dtype == torch.float64
    assert value.shape == ()


@every_loss
def test_no_tensor_is_larger_than_the_similarity_matrix(loss, largest_tensor):
    views = torch.randn(2, 32, 16, requires_grad=True)
    with largest_tensor:
        loss(views, torch.arange(32) % 3).backward()
    assert largest_tensor.elements == 64 * 64


@pytest.mark.parametrize("loss", [*LOSSES.values(), ce_loss], ids=[*LOSSES, "ce"])
def test_labels_on_an_accelerator_are_never_read_by_the_host(loss):
    # A fake tensor has no values: whatever would wait for one raises.
    with FakeTensorMode(), torch.no_grad():
        views = torch.randn(2, 4, 3, device="cuda")
        labels = torch.zeros(4, dtype=torch.long, device="cuda")
        assert loss(views, labels).device.type == "cuda"


@every_loss
@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 3), (2, 0, 3), (2, 4, 0), (1, 2, 4, 3)])
def test_views_of_another_shape_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"views: expected the shape \(2, B, D\), got"):
        loss(torch.zeros(shape), torch.zeros(4, dtype=torch.long))


@every_loss
def test_views_of_integers_are_refused(loss):
    with pytest.raises(ValueError, match="views: expected floating-point numbers, got torch"):
        loss(torch.zeros(2, 4, 3, dtype=torch.long), torch.zeros(4, dtype=torch.long))


@every_loss
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(loss, temperature):
    with pytest.raises(ValueError, match="temperature: must be positive and finite, got"):
        loss(torch.ones(2, 4, 3), torch.zeros(4, dtype=torch.long), temperature)


@pytest.mark.parametrize("loss", LABELLED)
@pytest.mark.parametrize("shape", [(3,), (8,), (4, 1), ()])
def test_labels_of_another_shape_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"labels: expected the shape \(4,\), one per image, got"):
        loss(torch.ones(2, 4, 3), torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("loss", LABELLED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_labels_that_are_no_integers_are_refused(loss, dtype):
    with pytest.raises(ValueError, match="labels: expected integers, got torch"):
        loss(torch.ones(2, 4, 3), torch.zeros(4, dtype=dtype))
