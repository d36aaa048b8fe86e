import numpy as np
import pytest

from alignctl.training.batches import draw_batches


def draw(labels, *, batch_size=10, ids=None, method="stratified", seed=0, epoch=0):
    ids = np.arange(len(labels)) if ids is None else ids
    return draw_batches(labels, ids, batch_size=batch_size, method=method, seed=seed, epoch=epoch)


def shuffled_labels(counts, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


def counts_per_batch(labels, batches, num_classes):
    return np.stack([np.bincount(labels[batch], minlength=num_classes) for batch in batches])


@pytest.mark.parametrize("method", ["stratified", "uniform"])
def test_an_epoch_has_every_complete_batch_and_no_image_twice(method):
    labels = shuffled_labels([13, 5, 29])
    for epoch in range(20):
        batches = draw(labels, method=method, epoch=epoch)
        assert batches.shape == (4, 10)
        assert len(np.unique(batches)) == 40
        assert batches.min() >= 0 and batches.max() < 47


@pytest.mark.parametrize("method", ["stratified", "uniform"])
def test_every_image_has_its_turn(method):
    labels = shuffled_labels([13, 5, 29])
    seen = [draw(labels, method=method, epoch=epoch) for epoch in range(20)]
    assert len(np.unique(seen)) == 47


def test_equal_classes_that_divide_the_batch_are_in_it_equally_often():
    labels = shuffled_labels([20] * 5)
    for epoch in range(20):
        counts = counts_per_batch(labels, draw(labels, batch_size=15, epoch=epoch), 5)
        assert (counts == 3).all()


def test_stratified_batches_keep_the_proportions_to_within_a_few_images():
    sizes = np.array([146, 90, 177, 30, 300])
    labels = shuffled_labels(sizes)
    expected = sizes * 64 / len(labels)
    distance = {}
    for method in ("stratified", "uniform"):
        batches = [draw(labels, batch_size=64, method=method, epoch=epoch) for epoch in range(30)]
        counts = counts_per_batch(labels, np.concatenate(batches), 5)
        distance[method] = np.abs(counts - expected).max()
    assert distance["stratified"] < 3
    assert distance["uniform"] > 6, "so the bound tells the two apart"


def test_each_class_comes_in_random_order():
    labels = shuffled_labels([20] * 5)
    first = [draw(labels, batch_size=20, epoch=epoch)[0] for epoch in range(100)]
    share = np.bincount(np.concatenate(first), minlength=100) / 100
    assert share.mean() == pytest.approx(0.2)
    assert share.min() > 0.05 and share.max() < 0.4


@pytest.mark.parametrize("method", ["stratified", "uniform"])
def test_batches_are_a_function_of_seed_and_epoch(method):
    labels = shuffled_labels([20] * 5)
    drawn = {
        key: draw(labels, method=method, seed=key[0], epoch=key[1]).tobytes()
        for key in [(0, 0), (0, 1), (1, 0), (1, 1)]
    }
    assert len(set(drawn.values())) == 4
    assert drawn[0, 1] == draw(labels, method=method, epoch=1).tobytes()


@pytest.mark.parametrize("method", ["stratified", "uniform"])
def test_the_order_of_images_in_memory_does_not_matter(method):
    labels, ids = shuffled_labels([13, 5, 29]), np.arange(47) * 3 + 1
    order = np.random.default_rng(1).permutation(47)
    here = draw(labels, ids=ids, method=method)
    there = draw(labels[order], ids=ids[order], method=method)
    np.testing.assert_array_equal(ids[here], ids[order][there])
