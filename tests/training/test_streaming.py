import os
import shutil
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as torchvision
from whole_batches import views_of

from alignctl.datasets import load_images, open_images, streamed
from alignctl.datasets.image_folder import image_folder_source
from alignctl.errors import ConfigError, DataError, LaunchError
from alignctl.randomness import uniforms
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.checkpoints import digest, load_weights
from alignctl.runs.directory import checkpoint_file
from alignctl.training.batches import draw_batches
from alignctl.training.data import load_training_data
from alignctl.verify.trained_run import check_batches
from alignctl.views.augmentations import NUM_DRAWS, draw_crops

CPU = torch.device("cpu")
EVERYTHING = "augmentation={blur_probability: 0.5, brightness: 0.8, hue: 0.2}"


@dataclass(frozen=True)
class Share:
    rank: int
    size: int


def same(a, b):
    parts = ("images", "labels", "ids")
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in parts)


@pytest.fixture(scope="module")
def data_of(streamed_study):
    """A function of overrides: the training data of that study."""
    return lambda *overrides: load_training_data(streamed_study(EVERYTHING, *overrides), CPU)


@pytest.fixture(scope="module")
def epoch(data_of):
    """The batches of one epoch, decoded by this process alone."""
    return list(data_of("dataset.workers=0").batches(3))


def naive_crops(study, files, ids, *, epoch, view):
    """The crops of one view by torchvision, image by image: (n, size, size, 3) uint8."""
    crops = []
    for index in ids:
        with Image.open(files[index]) as image:
            rgb = image.convert("RGB")
        draws = uniforms(
            study.seed, "views", epoch=epoch, samples=np.array([index]), view=view,
            num_draws=NUM_DRAWS,
        )  # fmt: skip
        (box,) = draw_crops(draws, study.augmentation, height=rgb.height, width=rgb.width).tolist()
        size = study.dataset.image_size
        crops.append(np.asarray(torchvision.resized_crop(rgb, *box, [size, size])))
    return np.stack(crops)


def test_a_view_is_torchvisions_crop_of_the_whole_image_in_the_colours_of_images_in_memory(
    streamed_study, epoch
):
    study = streamed_study(EVERYTHING)
    source = image_folder_source(study.dataset, "train")
    files = [path for _, path in source.encoded(np.arange(48))]
    whole = study.augmentation.model_copy(update={"crop_scale": (1, 1), "crop_ratio": (1, 1)})
    for batch in epoch:
        ids = batch.ids.numpy()
        for view in range(2):
            crops = torch.from_numpy(naive_crops(study, files, ids, epoch=3, view=view))
            expected = views_of(crops, ids, config=whole, seed=study.seed, epoch=3)
            assert torch.equal(batch.images[view], expected[view])


def test_batches_are_those_that_are_drawn_of_all_images(data_of, epoch):
    data = data_of()
    drawn = draw_batches(data.labels, data.ids, batch_size=16, method="stratified", seed=0, epoch=3)
    found = load_images(data.study.dataset, "train")
    assert (data.num_classes, data.steps_per_epoch, data.image_shape) == (3, 3, (16, 16))
    for batch, positions in zip(epoch, drawn, strict=True):
        np.testing.assert_array_equal(batch.ids, found.ids[positions])
        np.testing.assert_array_equal(batch.labels, found.labels[positions])
        assert batch.images.shape == (2, 16, 3, 16, 16)
        assert batch.images.dtype == torch.float32


@pytest.mark.parametrize("workers", [1, 3])
def test_no_bit_depends_on_who_decodes(data_of, epoch, workers):
    found = list(data_of(f"dataset.workers={workers}").batches(3))
    assert all(map(same, found, epoch))


@pytest.fixture
def opened(monkeypatch):
    """The names of the images that this process opens."""
    names = []
    open_image = streamed.open_image
    monkeypatch.setattr(
        streamed, "open_image", lambda item: names.append(item[0]) or open_image(item)
    )
    return names


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [2, 4])
def test_a_share_is_its_part_of_the_batch_and_no_more_is_decoded(
    data_of, epoch, size, workers, opened
):
    data = data_of(f"dataset.workers={workers}")
    for rank in range(size):
        part = slice(rank * 16 // size, (rank + 1) * 16 // size)
        for share, batch in zip(data.batches(3, peers=Share(rank, size)), epoch, strict=True):
            assert share.peers == Share(rank, size)
            assert torch.equal(share.images, batch.images[:, part])
            assert torch.equal(share.labels, batch.labels[part])
            assert torch.equal(share.ids, batch.ids[part])
        if workers == 0:
            assert len(opened) == (rank + 1) * 48 / size
    assert len(opened) == len(set(opened)) == (48 if workers == 0 else 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_entered_half_way_decodes_nothing_before(data_of, epoch, workers, opened):
    data = data_of(f"dataset.workers={workers}")
    for first in range(4):
        opened.clear()
        rest = list(data.batches(3, first_step=first))
        assert len(rest) == 3 - first
        assert all(map(same, epoch[first:], rest))
        assert len(opened) == (16 * (3 - first) if workers == 0 else 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_is_said_whenever_images_have_come(data_of, workers):
    times = []
    batches = data_of(f"dataset.workers={workers}").batches(0, received=lambda: times.append(1))
    next(batches)
    assert times, "a slow disk is no hang"
    batches.close()


def test_both_views_of_an_image_come_from_one_decode(data_of, opened):
    assert len(list(data_of("dataset.workers=0").batches(0))) == 3
    assert len(opened) == 48


def test_epochs_seeds_and_views_differ(data_of, epoch):
    data = data_of()
    assert not any(map(same, epoch, data.batches(4)))
    assert not any(map(same, epoch, data_of("seed=1").batches(3)))
    assert not torch.equal(epoch[0].images[0], epoch[0].images[1])


def test_the_digest_knows_labels_ids_and_names_and_no_pixels(data_of, tmp_path):
    data = data_of()
    moved = tmp_path / "photos"
    shutil.copytree(data.study.dataset.path, moved)
    Image.new("RGB", (50, 60)).save(moved / "train/ant/4.jpg")
    digests = [data.digest, data_of(f"dataset.path={moved}").digest]
    assert digests[0] == digests[1], "pixels are proven by the digest of each epoch"
    (moved / "train/ant").rename(moved / "train/antelope")
    (moved / "test/ant").rename(moved / "test/antelope")
    digests.append(data_of(f"dataset.path={moved}").digest)
    (moved / "train/cow/1.png").rename(moved / "train/cow/another.png")
    digests.append(data_of(f"dataset.path={moved}").digest)
    (moved / "train/cow/another.png").unlink()
    digests.append(data_of(f"dataset.path={moved}").digest)
    digests.append(data_of("dataset.classes=[bee, ant, cow]").digest)
    assert len(set(digests)) == 5
    in_memory = data_of("dataset.in_memory=true")
    assert in_memory.digest not in digests
    assert in_memory.image_shape == data.image_shape


def test_only_the_first_image_is_looked_at_before_training(streamed_study, tmp_path):
    study = streamed_study()
    moved = tmp_path / "photos"
    shutil.copytree(study.dataset.path, moved)
    study = streamed_study(f"dataset.path={moved}")
    for path in sorted((moved / "train").rglob("*.*"))[1:]:
        path.write_bytes(b"damaged")
    load_training_data(study, CPU)
    (moved / "train/ant/0.jpg").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"train/ant/0.jpg: not a readable image: no known format"):
        load_training_data(study, CPU)


def test_a_batch_larger_than_the_dataset_is_refused(streamed_study):
    with pytest.raises(ConfigError, match="49 images, but the train split has only 48"):
        load_training_data(streamed_study("training.batch_size=49"), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_are_those_on_the_cpu_and_never_wait_for_it(data_of, epoch):
    data = load_training_data(data_of("dataset.workers=2").study, torch.device("cuda"))
    list(data.batches(3))  # what is done once, as pinning memory, is done
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = list(data.batches(3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for batch, expected in zip(found, epoch, strict=True):
        torch.testing.assert_close(batch.images.cpu(), expected.images, rtol=0, atol=5e-5)
        assert torch.equal(batch.ids.cpu(), expected.ids)


# --- a run


@pytest.fixture(scope="module")
def whole(streamed_study, train_alone, tmp_path_factory):
    """A run of one objective on streamed images, decoded by another process."""
    study = streamed_study("objectives=[cl]")
    return train_alone(study, tmp_path_factory.mktemp("streamed") / "run")


def test_a_run_does_not_depend_on_who_decodes(whole, streamed_study, train_alone, tmp_path):
    study = streamed_study("objectives=[cl]", "dataset.workers=0")
    other = train_alone(study, tmp_path / "run")
    ours, theirs = (Manifest.read(run.manifest_file) for run in (whole, other))
    assert (ours.batches, ours.checkpoints) == (theirs.batches, theirs.checkpoints)
    assert ours.training_data == theirs.training_data is not None
    assert whole.training_table.read_bytes() == other.training_table.read_bytes()
    weights = [load_weights(checkpoint_file(run, "cl", 2)) for run in (whole, other)]
    assert digest(weights[0]) == digest(weights[1])


def test_a_streamed_epoch_can_be_drawn_again(whole, streamed_study, tmp_path):
    manifest = Manifest.read(whole.manifest_file)
    for epoch in (1, 2):
        assert check_batches(whole.config, manifest, epoch=epoch, device=CPU).result == "ok"
    moved = tmp_path / "photos"
    shutil.copytree(whole.config.dataset.path, moved)
    study = streamed_study("objectives=[cl]", f"dataset.path={moved}")
    assert check_batches(study, manifest, epoch=1, device=CPU).result == "ok"
    with Image.open(moved / "train/bee/5.png") as image:
        changed = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    changed.save(moved / "train/bee/5.png")
    assert check_batches(study, manifest, epoch=1, device=CPU).result == "differs"
    (moved / "train/bee/5.png").write_bytes(b"")
    found = check_batches(study, manifest, epoch=1, device=CPU)
    assert found.result == "not checked"
    assert found.finding == f"{moved}/train/bee/5.png: not a readable image: no known format"


def test_a_damaged_image_ends_training_with_its_name(
    streamed_study, train_alone, tmp_path, photo_folder
):
    moved = tmp_path / "photos"
    shutil.copytree(photo_folder, moved)
    (moved / "train/cow/7.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    study = streamed_study("objectives=[cl]", f"dataset.path={moved}", "dataset.workers=2")
    with pytest.raises(DataError, match=r"^/.*/train/cow/7.png: not a readable image: no known"):
        train_alone(study, tmp_path / "run")
    assert Manifest.read(RunDirectory(tmp_path / "run").manifest_file).finished_epochs == 0


def test_a_killed_decoding_process_ends_training_with_one_line_and_loses_nothing(
    streamed_study, train_alone, tmp_path, monkeypatch, whole
):
    study = streamed_study("objectives=[cl]", "dataset.workers=2")
    seen = []

    def kill_in_the_second_epoch(item):
        seen.append(item)
        if len(seen) == 20 and epoch_file.exists():
            os.kill(os.getpid(), signal.SIGKILL)  # of the decoding process, which runs this
        return open_image(item)

    open_image = streamed.open_image
    epoch_file = tmp_path / "run/checkpoints/cl/epoch_0001.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(streamed, "open_image", kill_in_the_second_epoch)
        with pytest.raises(LaunchError, match=r"died with signal 9 \(SIGKILL\)"):
            train_alone(study, tmp_path / "run")
    run = train_alone(study, tmp_path / "run")
    assert run.training_table.read_bytes() == whole.training_table.read_bytes()
    ours, theirs = (checkpoint_file(each, "cl", 2).read_bytes() for each in (run, whole))
    assert ours == theirs


def test_open_images_goes_by_the_config(streamed_study):
    streamed = open_images(streamed_study().dataset, "test")
    in_memory = open_images(streamed_study("dataset.in_memory=true").dataset, "test")
    for part in ("labels", "ids", "class_names", "image_shape"):
        assert np.array_equal(getattr(streamed, part), getattr(in_memory, part))
    assert hasattr(in_memory, "images") and not hasattr(streamed, "images")
