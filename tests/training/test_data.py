from dataclasses import dataclass

import numpy as np
import pytest
import torch
from whole_batches import views_of

from alignctl.datasets import load_images
from alignctl.errors import ConfigError
from alignctl.training.batches import draw_batches
from alignctl.training.data import load_training_data

CPU = torch.device("cpu")


def same(a, b):
    parts = ("images", "labels", "ids")
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in parts)


def test_the_train_split_is_held_as_it_was_decoded(small_study):
    study = small_study()
    data, found = load_training_data(study, CPU), load_images(study.dataset, "train")
    assert data.images.pixels.dtype == torch.uint8
    np.testing.assert_array_equal(data.images.pixels.numpy(), found.images)
    np.testing.assert_array_equal(data.labels, found.labels)
    np.testing.assert_array_equal(data.ids, found.ids)
    assert (data.num_classes, data.steps_per_epoch) == (3, 3)


def test_an_incomplete_batch_is_dropped(small_study):
    data = load_training_data(small_study("training.batch_size=20"), CPU)
    assert data.steps_per_epoch == 2 == len(list(data.batches(0)))


def test_batches_are_the_drawn_images_seen_through_two_views(small_study):
    study = small_study("seed=3")
    data, found = load_training_data(study, CPU), load_images(study.dataset, "train")
    drawn = draw_batches(
        found.labels, found.ids, batch_size=16, method="stratified", seed=3, epoch=5
    )
    batches = list(data.batches(5))
    for batch, positions in zip(batches, drawn, strict=True):
        ids = found.ids[positions]
        np.testing.assert_array_equal(batch.ids, ids)
        np.testing.assert_array_equal(batch.labels, found.labels[positions])
        pixels = torch.from_numpy(found.images[positions])
        views = views_of(pixels, ids, config=study.augmentation, seed=3, epoch=5)
        assert batch.images.shape == (2, 16, 3, 8, 8)
        assert batch.images.dtype == torch.float32
        assert torch.equal(batch.images, views)


def test_an_epoch_is_the_same_every_time_and_unlike_any_other(small_study):
    data = load_training_data(small_study(), CPU)
    first, again, next_epoch = (list(data.batches(epoch)) for epoch in (0, 0, 1))
    other_seed = list(load_training_data(small_study("seed=1"), CPU).batches(0))
    assert all(map(same, first, again))
    assert not any(map(same, first, next_epoch))
    assert not any(map(same, first, other_seed))


def test_objectives_and_temperature_change_neither_batches_nor_views(small_study):
    data, other = (
        load_training_data(study, CPU)
        for study in (small_study(), small_study("objectives=[ce]", "temperature=0.01"))
    )
    assert all(map(same, data.batches(0), other.batches(0)))


@dataclass(frozen=True)
class Share:
    rank: int
    size: int


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_shares_of_a_batch_are_the_batch_cut_in_the_order_of_ranks(small_study, size):
    data = load_training_data(small_study(), CPU)
    whole = list(data.batches(1))
    shares = [list(data.batches(1, peers=Share(rank, size))) for rank in range(size)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [part.peers for part in parts] == [Share(rank, size) for rank in range(size)]
        assert torch.equal(torch.cat([part.images for part in parts], dim=1), batch.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
        assert torch.equal(torch.cat([part.ids for part in parts]), batch.ids)


def test_an_epoch_can_be_entered_at_any_step(small_study):
    data = load_training_data(small_study(), CPU)
    whole = list(data.batches(2))
    for first in range(4):
        rest = list(data.batches(2, first_step=first))
        assert len(rest) == 3 - first
        assert all(map(same, whole[first:], rest))


def test_a_batch_larger_than_the_dataset_is_refused(small_study):
    message = "training.batch_size: 49 images, but the train split has only 48"
    with pytest.raises(ConfigError, match=message):
        load_training_data(small_study("training.batch_size=49"), CPU)
    whole = load_training_data(small_study("training.batch_size=48"), CPU)
    assert whole.steps_per_epoch == 1
