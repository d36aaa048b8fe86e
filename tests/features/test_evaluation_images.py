from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from alignctl.config.metric_configs import parse_metrics
from alignctl.datasets import load_images, open_images, streamed
from alignctl.evaluators.alignment import AlignmentJob, evaluate
from alignctl.evaluators.alignment_table import read_table
from alignctl.features import evaluation_images as module
from alignctl.features.evaluation_images import image_passes, passes_of
from alignctl.metrics.scoring import Question
from alignctl.runs import Manifest, RunDirectory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (slice(0, 512), [(0, 512)]),
        (slice(0, 513), [(0, 512), (512, 513)]),
        (slice(100, 1200), [(100, 612), (612, 1124), (1124, 1200)]),
        (slice(7, 7), [(7, 7)]),
    ],
)
def test_a_part_is_passed_over_in_full_passes_and_a_rest(part, expected):
    assert [(rows.start, rows.stop) for rows in passes_of(part)] == expected


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_passes_over_all_parts_are_the_images_in_order(
    streamed_study, monkeypatch, in_memory, workers
):
    monkeypatch.setattr(module, "IMAGES_PER_PASS", 10)
    config = streamed_study(
        f"dataset.in_memory={in_memory}", f"dataset.workers={workers}", "dataset.resize=20"
    ).dataset
    expected = torch.from_numpy(load_images(config, "train").images)
    parts = [slice(3, 20), slice(20, 33), slice(33, 33)]
    found = list(image_passes(open_images(config, "train"), parts, CPU))
    assert [len(images) for images in found] == [10, 7, 10, 3, 0]
    assert all(images.dtype == torch.uint8 for images in found)
    assert torch.equal(torch.cat(found), expected[3:33]), "also once later passes have come"


def test_pixels_are_those_of_torchvisions_resize_and_centre_crop(tmp_path, streamed_study):
    pixels = np.random.default_rng(0).integers(256, size=(300, 401, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            photo.save(tmp_path / split / name / "1.jpg", quality=90)
    config = streamed_study(
        f"dataset.path={tmp_path}", "dataset.image_size=224", "dataset.resize=256"
    ).dataset
    (found,) = image_passes(open_images(config, "test"), [slice(0, 1)], CPU)
    transform = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    with Image.open(tmp_path / "test/ant/1.jpg") as image:
        expected = transform(image).permute(1, 2, 0)
    assert torch.equal(found[0], expected)


def test_nothing_is_decoded_before_the_first_pass_is_asked_for(streamed_study, monkeypatch):
    images = open_images(streamed_study("dataset.workers=1").dataset, "test")
    monkeypatch.setattr(streamed, "decoded_ahead", None)
    passes = image_passes(images, [slice(0, 5)], CPU)
    passes.close()
    with pytest.raises(TypeError, match="not callable"):
        next(image_passes(images, [slice(0, 5)], CPU))


@pytest.fixture(scope="module")
def streamed_run(train_once, streamed_study):
    """Two objectives on streamed images, weights after epochs 0, 1 and 2."""
    return train_once(
        "objectives=[cl, ce]", f"dataset={streamed_study().dataset.model_dump_json()}"
    )


@pytest.mark.parametrize("num_processes", [1, 2])
def test_features_and_scores_are_those_of_images_in_memory(
    streamed_run, one_process, pool, tmp_path, num_processes
):
    tables, kept = [], []
    for in_memory in (True, False):
        run = RunDirectory(tmp_path / str(in_memory))
        (run.path / "checkpoints").parent.mkdir()
        (run.path / "checkpoints").symlink_to(streamed_run.checkpoints)
        # in memory or not is another study, whose training images have another digest
        manifest = Manifest.read(streamed_run.manifest_file)
        manifest.updated(training_data=None).write(run.manifest_file)
        study = streamed_run.config
        dataset = study.dataset.model_copy(update={"in_memory": in_memory, "workers": 2})
        run.write_config(study.model_copy(update={"dataset": dataset}))
        asked = AlignmentJob(
            run=run.path, pairs=(("cl", "ce"),), splits=("train", "test"), representations=("h",),
            question=Question(parse_metrics(["cka", "rsa"]), 0.95, 0), keep_features=True,
        )  # fmt: skip
        if num_processes == 1:
            context = replace(one_process, events_file=run.events_file)
            assert evaluate(context, asked) == 6
        else:
            pool.launch(evaluate, asked, size=2, events_file=run.events_file)
        tables.append(read_table(run))
        files = sorted(run.features.rglob("*.npy"))
        kept.append({path.relative_to(run.path): path.read_bytes() for path in files})
    pd.testing.assert_frame_equal(*tables)
    assert len(kept[0]) == 12
    assert kept[0] == kept[1]
