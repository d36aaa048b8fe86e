"""Blocks of anchors: the same losses in the memory of one block, and parts that add up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from references import contrastive_loss
from torch._subclasses.fake_tensor import FakeTensorMode

from alignctl.objectives import blocks, cl_loss, dcl_loss, nscl_loss, scl_loss
from alignctl.objectives.blocks import in_row_blocks

WORKER = Path(__file__).parent / "workers" / "large_batch.py"
TEMPERATURE = 0.3
LABELS = [0, 0, 0, 0, 1, 2, 0]

LOSSES = {
    "cl": lambda views, labels, **part: cl_loss(views, TEMPERATURE, **part),
    "dcl": lambda views, labels, **part: dcl_loss(views, TEMPERATURE, **part),
    "nscl": lambda views, labels, **part: nscl_loss(views, labels, TEMPERATURE, **part),
    "nscl_without_positive": lambda views, labels, **part: nscl_loss(
        views, labels, TEMPERATURE, positive_in_denominator=False, **part
    ),
    "scl": lambda views, labels, **part: scl_loss(views, labels, TEMPERATURE, **part),
}

every_loss = pytest.mark.parametrize("name", LOSSES)
# One row, several rows that do not divide the anchors, one block for one of scl's two matrices.
every_size = pytest.mark.parametrize("elements", [1, 3 * 14, 50, 5 * 14, 7 * 14])


def draw(labels, dim=3):
    stream = torch.Generator().manual_seed(len(labels))
    views = torch.randn(2, len(labels), dim, dtype=torch.float64, generator=stream)
    return views.requires_grad_(), torch.tensor(labels)


def value_and_gradient(loss, views, *arguments, **part):
    value = loss(views, *arguments, **part)
    return value.detach(), *torch.autograd.grad(value, views)


@pytest.mark.parametrize("elements", [1, 4, 11, 12, 10**9])
def test_blocks_join_to_the_whole(monkeypatch, elements):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", elements)
    x, y = torch.arange(21.0).view(7, 3), torch.arange(7)
    sizes = []

    def function(rows, numbers):
        sizes.append(len(rows))
        return rows * numbers[:, None]

    assert torch.equal(in_row_blocks(function, [x, y], width=4), x * y[:, None])
    assert max(sizes) == min(7, max(1, elements // 4))
    assert sum(sizes) == 7


@every_size
@every_loss
def test_a_loss_does_not_depend_on_the_blocks(monkeypatch, name, elements):
    views, labels = draw(LABELS)
    value, gradient = value_and_gradient(LOSSES[name], views, labels)
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", elements)
    blocked, blocked_gradient = value_and_gradient(LOSSES[name], views, labels)
    expected = contrastive_loss(name, views.detach(), LABELS, TEMPERATURE)
    assert blocked.item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(blocked, value, rtol=0, atol=1e-12)
    torch.testing.assert_close(blocked_gradient, gradient, rtol=0, atol=1e-12)


@every_loss
def test_the_gradient_of_a_blocked_loss_is_right(monkeypatch, name):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 24)
    views, labels = draw([0, 0, 1, 2])
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, labels), views)


@every_loss
def test_a_blocked_loss_is_the_same_every_time(monkeypatch, name):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 50)
    views, labels = draw(LABELS, dim=64)
    first, second = (value_and_gradient(LOSSES[name], views, labels) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_loss
def test_a_blocked_loss_stays_in_float32_under_autocast(monkeypatch, name):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 50)
    views, labels = draw(LABELS)
    views = views.detach().float().requires_grad_()
    expected = value_and_gradient(LOSSES[name], views, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = LOSSES[name](views, labels)
    found = loss, *torch.autograd.grad(loss, views)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore:no anchor of the batch has a negative")
@every_loss
def test_blocks_of_one_class_have_a_finite_gradient(monkeypatch, name):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 20)
    views, labels = draw([3, 3, 3, 3])
    value, gradient = value_and_gradient(LOSSES[name], views, labels)
    assert value.isfinite()
    assert gradient.isfinite().all()
    if name.startswith("nscl"):
        assert value == 0
        assert gradient.eq(0).all()


@every_loss
def test_a_batch_that_fits_into_one_block_is_never_computed_again(monkeypatch, name):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 14 * 14)
    monkeypatch.setattr(blocks, "checkpoint", None)
    views, labels = draw(LABELS)
    LOSSES[name](views, labels).backward()


@every_loss
def test_no_tensor_is_larger_than_a_block(monkeypatch, name, largest_tensor):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 5 * 64 + 1)
    views, labels = draw([i % 3 for i in range(32)], dim=4)
    with largest_tensor:
        LOSSES[name](views, labels).backward()
    assert largest_tensor.elements == 5 * 64


@every_loss
def test_a_quarter_of_the_anchors_has_a_quarter_of_the_rows(name, largest_tensor):
    views, labels = draw([i % 3 for i in range(32)])
    with largest_tensor:
        LOSSES[name](views, labels, anchors=slice(8, 16)).backward()
    assert largest_tensor.elements == 16 * 64


@pytest.mark.parametrize("elements", [1, 50, 10**9])
@every_loss
def test_parts_are_the_terms_of_their_anchors(monkeypatch, name, elements):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", elements)
    views, labels = draw(LABELS)
    for anchors in (slice(0, 1), slice(1, 5), slice(5, None), slice(None, None, 3), slice(2, 2)):
        images = range(len(LABELS))[anchors]
        part = LOSSES[name](views, labels, anchors=anchors)
        expected = contrastive_loss(name, views.detach(), LABELS, TEMPERATURE, images=images)
        assert part.item() == pytest.approx(expected, abs=1e-12)


@every_loss
def test_parts_add_up_to_the_loss(name):
    views, labels = draw(LABELS)
    cuts = [0, 1, 4, 7]
    value, gradient = value_and_gradient(LOSSES[name], views, labels)
    parts = [
        value_and_gradient(LOSSES[name], views, labels, anchors=slice(*cuts[i : i + 2]))
        for i in range(3)
    ]
    torch.testing.assert_close(sum(p[0] for p in parts), value, rtol=0, atol=1e-12)
    torch.testing.assert_close(sum(p[1] for p in parts), gradient, rtol=0, atol=1e-12)


def test_a_part_of_a_batch_without_negatives_is_zero_with_a_warning():
    # Its anchors' own labels agree, and so do those of all others: nothing is left of the mean.
    views, labels = draw([1, 1, 1, 1])
    with pytest.warns(RuntimeWarning, match="no anchor of the batch has a negative"):
        part = LOSSES["nscl_without_positive"](views, labels, anchors=slice(0, 2))
    assert part.item() == 0


def test_a_part_whose_own_images_are_of_one_class_has_the_negatives_of_others():
    views, labels = draw([1, 1, 0, 2])
    part = LOSSES["nscl_without_positive"](views, labels, anchors=slice(0, 2))
    expected = contrastive_loss(
        "nscl_without_positive", views.detach(), labels.tolist(), TEMPERATURE, images=[0, 1]
    )
    assert part.item() == pytest.approx(expected, abs=1e-12)


@every_loss
def test_blocks_on_an_accelerator_never_make_the_host_wait(monkeypatch, name):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 20)
    # A fake tensor has no values: whatever would wait for one raises.
    with FakeTensorMode(), torch.no_grad():
        views = torch.randn(2, 4, 3, device="cuda")
        labels = torch.zeros(4, dtype=torch.long, device="cuda")
        loss = LOSSES[name](views, labels, anchors=slice(0, 3))
    assert loss.device.type == "cuda"


def repeated_images():
    """8192 images of 50 kinds, shuffled and of any length, with the kinds and their numbers."""
    stream = np.random.default_rng(0)
    kinds, labels = stream.standard_normal((2, 50, 64)), stream.integers(7, size=50)
    drawn = stream.integers(50, size=8192)
    lengths = stream.uniform(0.5, 2, (2, 8192, 1))
    return kinds, labels, drawn, (kinds[:, drawn] * lengths).astype(np.float32)


def exact_losses(kinds, labels, counts, temperature=0.5):
    """nscl and scl in float64, from how often each kind of image is in the batch."""
    unit = (kinds / np.linalg.norm(kinds, axis=2, keepdims=True)).reshape(100, 64)
    similarity = unit @ unit.T / temperature
    views, same = np.tile(counts, 2), np.tile(labels[:, None] == labels, (2, 2))
    positive = np.tile(similarity.diagonal(50), 2)
    negatives = (np.exp(similarity) * views * ~same).sum(axis=1)
    nscl = np.log(np.exp(positive) + negatives) - positive
    others = (np.exp(similarity) * views).sum(axis=1) - np.exp(1 / temperature)
    attraction = (similarity * views * same).sum(axis=1) - 1 / temperature
    scl = np.log(others) - attraction / ((views * same).sum(axis=1) - 1)
    return {"nscl": np.average(nscl, weights=views), "scl": np.average(scl, weights=views)}


@pytest.mark.soak
def test_sixteen_thousand_anchors_take_the_memory_of_a_few_blocks(tmp_path):
    kinds, labels, drawn, views = repeated_images()
    np.savez(tmp_path / "batch.npz", views=views, labels=labels[drawn])
    command = [sys.executable, str(WORKER), str(tmp_path / "batch.npz")]
    # What is freed goes back at once: what is measured is what is held, not what malloc keeps.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    result = json.loads(done.stdout)
    expected = exact_losses(kinds, labels, np.bincount(drawn, minlength=50))
    assert result["losses"] == pytest.approx(expected, rel=1e-5)
    assert result["finite"]
    # One similarity matrix of 16384 x 16384 float32 would take 1074 MB.
    assert result["memory_mb"] < 300
