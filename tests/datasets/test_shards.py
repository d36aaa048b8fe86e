from pathlib import Path

import pytest

from alignctl.datasets.shards import numbered_sets, refuse_gaps
from alignctl.errors import ConfigError


def files(*names):
    return [Path("/d") / name for name in names]


def of(total, *numbers, tail=".parquet"):
    return [f"train-{number:05d}-of-{total:05d}{tail}" for number in numbers]


@pytest.mark.parametrize(
    "names",
    [
        of(3, 0, 1, 2),
        of(3, 1, 2, 3),
        of(1, 0),
        [*of(2, 0, tail="-a09b74b3ef9c3b56.parquet"), *of(2, 1, tail="-ffffffffffffffff.parquet")],
        ["train-0.parquet", "train-7.parquet"],
        ["train-a.parquet"],
        [],
    ],
    ids=str,
)
def test_a_whole_set_is_taken(names):
    refuse_gaps(files(*names))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            of(3, 0, 2),
            "lacks train-00001-of-00003.parquet: 2 of 3 files are there; fetch what is missing",
        ),
        (of(3, 1, 2), "lacks train-00000-of-00003.parquet: 2 of 3"),
        (of(3, 0, 1), "lacks train-00002-of-00003.parquet: 2 of 3"),
        (
            of(9, 3),
            "lacks train-00000-of-00009.parquet, train-00001-of-00009.parquet, "
            "train-00002-of-00009.parquet and 5 more: 1 of 9 files",
        ),
        (of(2, 1, tail="-abc.parquet"), "lacks train-00000-of-00002.parquet: 1 of 2"),
        (
            [*of(1, 0), *of(2, 0, 1)],
            "holds files of more than one set (train-00000-of-00001.parquet and "
            "train-00000-of-00002.parquet); leave those of one",
        ),
        (
            [*of(2, 0, 1), "train-new.parquet"],
            "holds files of more than one set (train-00000-of-00002.parquet and train-new.parquet)",
        ),
        (
            [*of(1, 0, tail="-aa.parquet"), *of(1, 0, tail="-bb.parquet")],
            "holds files of more than one set (train-00000-of-00001-aa.parquet and "
            "train-00000-of-00001-bb.parquet)",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_what_is_no_whole_set_is_refused_with_what_is_missing(names, reason):
    with pytest.raises(ConfigError) as error:
        refuse_gaps(files(*names))
    assert str(error.value).startswith(f"dataset.path: '/d' {reason}")


def test_sets_are_told_apart_by_folder_and_split():
    paths = [
        *files(*of(2, 0, 1), "test-00000-of-00001.parquet", "README.md"),
        Path("/d/e/train-00000-of-00001.parquet"),
    ]
    assert [len(found) for found in numbered_sets(paths)] == [2, 1, 1]
