import pandas as pd
import pytest

from alignctl.runs.table_files import read_parquet
from alignctl.training.log import TrainingLog

NAMES = ("scl", "ce")
RATES = [0.1, 0.2, 0.3]


def losses(start):
    return {name: [start + i + k / 10 for k in range(3)] for i, name in enumerate(NAMES)}


def add(log, epoch, steps=slice(0, 3)):
    chosen = {name: values[steps] for name, values in losses(10.0 * epoch).items()}
    log.add(epoch, chosen, first_step=steps.start, learning_rates=RATES[steps])


def test_the_table_has_a_row_for_every_epoch_objective_and_step(tmp_path):
    log = TrainingLog(NAMES)
    add(log, 1)
    log.write(tmp_path / "table.parquet")
    add(log, 2)
    assert len(read_parquet(tmp_path / "table.parquet")) == 6, "nothing is written unasked"
    log.write(tmp_path / "table.parquet")
    expected = pd.DataFrame(
        {
            "epoch": [1] * 6 + [2] * 6,
            "step": [1, 2, 3] * 4,
            "objective": [*["scl"] * 3, *["ce"] * 3] * 2,
            "loss": [10.0, 10.1, 10.2, 11.0, 11.1, 11.2, 20.0, 20.1, 20.2, 21.0, 21.1, 21.2],
            "learning_rate": RATES * 4,
        }
    )
    found = read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.parametrize("cut", [1, 2])
def test_an_epoch_in_two_sittings_gives_the_same_bytes_as_in_one(tmp_path, cut):
    whole, first = TrainingLog(NAMES), TrainingLog(NAMES)
    for epoch in (1, 2):
        add(whole, epoch)
    means = whole.means(2)
    add(whole, 3)
    whole.write(tmp_path / "whole.parquet")
    add(first, 1)
    add(first, 2, slice(0, cut))
    first.write(tmp_path / "saved.parquet")
    second = TrainingLog(NAMES, tmp_path / "saved.parquet")
    add(second, 2, slice(cut, 3))
    assert second.means(2) == means
    add(second, 3)
    second.write(tmp_path / "again.parquet")
    ours, theirs = (tmp_path / name for name in ("again.parquet", "whole.parquet"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_mean_is_over_the_steps_of_an_epoch():
    log = TrainingLog(NAMES)
    add(log, 1)
    assert log.means(1) == pytest.approx({"scl": 10.1, "ce": 11.1})
    assert len(log.table()) == 6
    assert log.means(1) == pytest.approx({"scl": 10.1, "ce": 11.1})
    add(log, 2)
    assert log.means(2) == pytest.approx({"scl": 20.1, "ce": 21.1})


def test_a_log_without_rows_writes_no_table(tmp_path):
    log = TrainingLog(NAMES)
    log.add(1, {"scl": [], "ce": []}, first_step=0, learning_rates=[])
    log.write(tmp_path / "table.parquet")
    assert not (tmp_path / "table.parquet").exists()
    add(TrainingLog(NAMES, tmp_path / "table.parquet"), 1)
