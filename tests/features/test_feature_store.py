import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

# Started processes get our sys.path, and so find what they are to run.
sys.path.insert(0, str(Path(__file__).parent / "workers"))

from store_workers import FailingJob, StoreJob, fail_again_and_again, space_of, store

from alignctl.errors import AlignctlError
from alignctl.features.feature_store import drop_passing, stored_features
from alignctl.metrics import feature_space
from alignctl.metrics.feature_space import share_in_chunks
from alignctl.processes import Alone

NUM_IMAGES = 13


class OutOfMemoryError(Exception):
    pass


class Store:
    """Features of two models in a folder, and how often their rows were computed."""

    def __init__(self, context, tmp_path):
        self.context = context
        self.folder = tmp_path / "features" / "test_h"
        names = ("cl", "ce")
        # A file's folder may have another name than the model.
        self.checkpoints = {name: tmp_path / f"of_{name}" / "weights" for name in names}
        self.num_images = NUM_IMAGES
        self.parts = []
        self.fails_after = None
        for name, path in self.checkpoints.items():
            path.parent.mkdir()
            path.write_text(f"weights of {name}")

    @property
    def spaces(self):
        return [space_of(self.num_images, index) for index in range(len(self.checkpoints))]

    def compute(self, part, wanted):
        assert wanted == [0]
        if len(self.parts) == self.fails_after:
            raise OutOfMemoryError
        self.parts.append(part)
        return [[[space[part]] for space in self.spaces]]

    @contextmanager
    def open(self, *, keep):
        self.parts.clear()
        stored = stored_features(
            self.context,
            [self.folder],
            self.checkpoints,
            num_images=self.num_images,
            compute=self.compute,
            keep=keep,
        )
        with stored as (files,):
            for file, space in zip(files, self.spaces, strict=True):
                assert torch.equal(file.rows(slice(None)), space)
            yield files

    def keep(self):
        with self.open(keep=True):
            pass

    def was_computed(self, *, keep=True):
        with self.open(keep=keep):
            return bool(self.parts)

    def content(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def kept(one_process, tmp_path, monkeypatch):
    """A store whose features are kept already; they were written five rows at a time."""
    monkeypatch.setattr(feature_space, "CHUNK", 5)
    made = Store(one_process, tmp_path)
    made.keep()
    assert made.parts == [slice(0, 5), slice(5, 10), slice(10, 13)]
    return made


@pytest.fixture
def empty(kept):
    """A store that has nothing yet."""
    for path in kept.folder.iterdir():
        path.unlink()
    kept.folder.rmdir()
    return kept


def test_every_model_has_a_plain_float32_file_of_its_name(kept):
    assert sorted(kept.content()) == ["ce.npy", "cl.npy", "features.json"]
    for path, space in zip(("cl.npy", "ce.npy"), kept.spaces, strict=True):
        matrix = np.load(kept.folder / path)
        assert matrix.dtype == np.float32
        assert np.array_equal(matrix, space.numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_features_of_any_precision_are_stored_as_float32(empty, dtype):
    def compute(part, wanted):
        return [[[space[part].to(dtype)] for space in empty.spaces]]

    stored = stored_features(
        empty.context, [empty.folder], empty.checkpoints,
        num_images=NUM_IMAGES, compute=compute, keep=False,
    )  # fmt: skip
    with stored as (files,):
        for file, space in zip(files, empty.spaces, strict=True):
            assert torch.equal(file.rows(slice(None)), space.to(dtype).float())


def test_several_representations_are_written_at_once_and_only_those_that_are_not_there(kept):
    folders = [kept.folder.with_name(name) for name in ("test_g", "test_h", "test_layer")]
    asked = []

    def compute(part, wanted):
        asked.append(wanted)
        half = part.start + (part.stop - part.start) // 2
        for rows in (slice(part.start, half), slice(half, part.stop)):
            yield [[space[rows] * (1 + number) for number in wanted] for space in kept.spaces]

    before = kept.content()
    for keep in (True, False):
        stored = stored_features(
            kept.context, folders, kept.checkpoints,
            num_images=NUM_IMAGES, compute=compute, keep=keep,
        )  # fmt: skip
        with stored as found:
            for factor, files in zip((1, 1, 3), found, strict=True):
                for file, space in zip(files, kept.spaces, strict=True):
                    assert torch.equal(file.rows(slice(None)), factor * space)
        assert asked == [[0, 2]] * 3, "test_h was there, and then all were"
    assert kept.content() == before


def test_kept_features_are_used_again(kept):
    before = kept.content()
    assert not kept.was_computed()
    assert not kept.was_computed(keep=False)
    assert kept.content() == before


def test_kept_features_of_some_of_the_models_are_used_again(kept):
    kept.checkpoints.popitem()
    assert not kept.was_computed()


def spoil_checkpoint(store):
    store.checkpoints["ce"].write_text("other weights")


def spoil_number_of_images(store):
    store.num_images += 1


def spoil_version(store):
    path = store.folder / "features.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 0}))


def spoil_description(store):
    (store.folder / "features.json").write_text('{"schema_version": 1, "num_im')


def spoil_kind_of_description(store):
    (store.folder / "features.json").write_text("[1, 2]")


def spoil_key_of_description(store):
    (store.folder / "features.json").write_text('{"schema_version": 1}')


def spoil_presence_of_description(store):
    (store.folder / "features.json").unlink()


def spoil_presence_of_a_matrix(store):
    (store.folder / "ce.npy").unlink()


def spoil_length_of_a_matrix(store):
    path = store.folder / "ce.npy"
    path.write_bytes(path.read_bytes()[:-4])


def spoil_rows_of_a_matrix(store):
    np.save(store.folder / "ce.npy", np.zeros((NUM_IMAGES - 1, 3), np.float32))


def spoil_kind_of_a_matrix(store):
    (store.folder / "ce.npy").write_text("no matrix")


SPOILERS = [function for name, function in globals().items() if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_what_does_not_fit_or_is_damaged_is_computed_again(kept, spoil):
    spoil(kept)
    assert kept.was_computed()
    assert not kept.was_computed(), "and is whole again"


def test_features_written_half_way_are_not_taken_for_whole_ones(kept):
    original = kept.checkpoints["ce"].read_text()
    spoil_checkpoint(kept)
    kept.fails_after = 2
    with pytest.raises(OutOfMemoryError):
        kept.keep()
    kept.checkpoints["ce"].write_text(original)  # what was kept was of these very weights
    kept.fails_after = None
    assert kept.was_computed()


def test_features_that_are_not_kept_are_gone_afterwards(empty):
    with empty.open(keep=False) as files:
        assert all(file.path.is_file() for file in files)
    assert not empty.folder.exists()


def test_features_that_are_not_kept_outlive_an_error_until_they_are_dropped(empty):
    with pytest.raises(ValueError), empty.open(keep=False) as files:
        raise ValueError
    assert all(file.path.is_file() for file in files), "other processes may still read them"
    drop_passing(empty.folder.parent.parent, os.getppid() + 1)
    assert all(file.path.is_file() for file in files), "they are of another evaluation"
    drop_passing(empty.folder.parent.parent, os.getppid())
    assert not list(empty.folder.parent.iterdir() if empty.folder.parent.exists() else [])


def test_processes_that_fail_one_after_the_other_tell_the_same_reason(empty, pool, tmp_path):
    features = tmp_path / "features"
    job = FailingJob(features, empty.checkpoints, 40)
    everywhere = pool.launch(fail_again_and_again, job, size=2)
    assert everywhere == [["the real reason"] * 40] * 2
    drop_passing(features, pool.pid)
    assert not features.exists()


def test_features_that_are_not_kept_are_never_used_again(empty):
    with empty.open(keep=False):
        assert not (empty.folder / "features.json").exists()
    assert empty.was_computed(keep=False)


def test_features_that_could_not_all_be_computed_are_gone(empty):
    empty.fails_after = 1
    with pytest.raises(OutOfMemoryError), empty.open(keep=False):
        pass
    drop_passing(empty.folder.parent.parent, os.getppid())
    assert not empty.folder.exists()
    assert not empty.folder.parent.exists()


def test_kept_features_outlive_an_error_of_a_later_use(kept):
    before = kept.content()
    with pytest.raises(ValueError), kept.open(keep=False):
        raise ValueError
    assert kept.content() == before


def test_kept_features_outlive_the_passing_ones_of_other_models(kept):
    before = kept.content()
    other = kept.checkpoints["cl"].with_name("other")
    other.write_text("weights of scl")
    kept.checkpoints = {"scl": other}
    assert kept.was_computed(keep=False)
    assert kept.content() == before


def refused(store):
    with pytest.raises(AlignctlError) as error, store.open(keep=True):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_that_cannot_be_made_is_one_clear_error(empty, tmp_path):
    (tmp_path / "file").touch()
    empty.folder = tmp_path / "file" / "test_h"
    assert refused(empty) == f"{empty.folder}: cannot be written: Not a directory"


def test_passing_features_leave_those_kept_beside_them(kept):
    before, folder = kept.content(), kept.folder
    kept.folder = folder.with_name("train_h")
    assert kept.was_computed(keep=False)
    assert [path.name for path in folder.parent.iterdir()] == ["test_h"]
    kept.folder = folder
    assert kept.content() == before


def test_a_folder_that_may_not_be_written_is_one_clear_error(empty):
    empty.folder = Path("/proc/test_h")
    assert refused(empty).startswith("/proc/test_h: cannot be written: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_clear_error(empty):
    empty.folder.mkdir()
    (empty.folder / "cl.npy").symlink_to("/dev/full")
    assert refused(empty) == f"{empty.folder}: cannot be written: No space left on device"


def test_two_processes_write_what_one_writes(empty, pool, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_space, "CHUNK", feature_space.CHUNK)  # `store` sets it

    def jobs(folder):
        checkpoints = dict(empty.checkpoints)
        sizes = ((23, 4), (1, 4), (2, 1))  # one process has no row where there is one
        return [StoreJob(tmp_path / folder / str(n), checkpoints, n, chunk) for n, chunk in sizes]

    alone = store(empty.context, jobs("one"))
    both = pool.launch(store, jobs("two"), size=2)
    assert both == [alone, alone]
    for ours, theirs in zip(jobs("one"), jobs("two"), strict=True):
        names = sorted(path.name for path in ours.folder.iterdir())
        assert names == ["ce.npy", "cl.npy", "features.json"]
        for name in names:
            assert (ours.folder / name).read_bytes() == (theirs.folder / name).read_bytes()
    assert alone[0] == [space_of(23, index).tolist() for index in (0, 1)]


@pytest.mark.parametrize("num_images", [0, 1, 5, 64, 1000])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_shares_of_all_processes_are_every_image_once(num_images, size, monkeypatch):
    monkeypatch.setattr(feature_space, "CHUNK", 16)
    shares = [
        list(share_in_chunks(num_images, Alone(rank=rank, size=size))) for rank in range(size)
    ]
    seen = [index for share in shares for part in share for index in range(num_images)[part]]
    assert seen == list(range(num_images))
    sizes = [sum(part.stop - part.start for part in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(part.stop - part.start <= 16 for share in shares for part in share)
    assert all(share for share in shares), "a process without images has an empty part to add"
