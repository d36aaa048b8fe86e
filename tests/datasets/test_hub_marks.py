"""What tells the images of the hub's library from others without reading them."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignctl.config.dataset_configs import HubConfig
from alignctl.datasets import open_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def png(width: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (5, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def marks_of(path: Path, **options: object) -> bytes:
    config = HubConfig(name="huggingface", path=str(path), in_memory=False, image_size=4, **options)
    return open_images(config, "train").marks


def write(path: Path, widths: list[int]) -> list[int]:
    data = [png(width) for width in widths]
    cells = pa.array([{"bytes": cell, "path": None} for cell in data])
    path.mkdir()
    for split in ("train", "test"):
        table = pa.table({"image": cells, "label": [number % 2 for number in range(len(data))]})
        pq.write_table(table, path / f"{split}-00000-of-00001.parquet")
    return [len(cell) for cell in data]


def test_images_in_parquet_files_are_told_by_their_sizes(tmp_path):
    sizes = write(tmp_path / "one", [5, 6, 7, 8])
    others = write(tmp_path / "two", [5, 6, 9, 8])
    assert sizes != others
    assert np.frombuffer(marks_of(tmp_path / "one"), "<i8").tolist() == sizes
    assert np.frombuffer(marks_of(tmp_path / "two"), "<i8").tolist() == others
    one_of_each = np.frombuffer(marks_of(tmp_path / "one", images_per_class=1), "<i8")
    assert one_of_each.tolist() == sizes[:2]


def test_images_in_folders_are_told_by_their_names(tmp_path):
    for place in ("train/ant/a.png", "train/bee/b.png", "test/ant/c.png", "test/bee/d.png"):
        file = tmp_path / "folder" / place
        file.parent.mkdir(parents=True)
        file.write_bytes(png(6))
    assert marks_of(tmp_path / "folder") == b"ant/a.png\0bee/b.png"
