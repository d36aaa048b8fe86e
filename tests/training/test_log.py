import pandas as pd
import pytest

from alignctl.runs import RunDirectory
from alignctl.runs.tables import read_parquet
from alignctl.training.log import EpochLosses, TrainingLog


def entry(epoch, objective="cl", losses=(2.0, 1.0), rates=(0.1, 0.2)):
    return EpochLosses(epoch, objective, losses, rates)


def test_the_mean_is_over_the_steps():
    assert entry(1, losses=(1.0, 2.0, 6.0), rates=(1, 1, 1)).mean == 3.0


def test_the_table_has_a_row_for_every_epoch_objective_and_step(tmp_path):
    run = RunDirectory(tmp_path)
    log = TrainingLog(run, finished_epochs=0)
    log.add(entry(1))
    log.add(entry(1, "ce", losses=(0.5, 0.25)))
    log.write()
    log.add(entry(2))
    assert len(read_parquet(run.training_table)) == 4, "nothing is written unasked"
    log.write()
    expected = pd.DataFrame(
        {
            "epoch": [1, 1, 1, 1, 2, 2],
            "step": [1, 2, 1, 2, 1, 2],
            "objective": ["cl", "cl", "ce", "ce", "cl", "cl"],
            "loss": [2.0, 1.0, 0.5, 0.25, 2.0, 1.0],
            "learning_rate": [0.1, 0.2] * 3,
        }
    )
    pd.testing.assert_frame_equal(read_parquet(run.training_table), expected, check_dtype=False)


@pytest.mark.parametrize(("finished", "kept"), [(0, []), (1, [1, 1]), (2, [1, 1, 2, 2])])
def test_a_resumed_log_forgets_epochs_that_are_not_finished(tmp_path, finished, kept):
    run = RunDirectory(tmp_path)
    log = TrainingLog(run, finished_epochs=0)
    log.add(entry(1))
    log.add(entry(2))
    log.write()
    again = TrainingLog(run, finished_epochs=finished)
    again.add(entry(finished + 1, losses=(9.0, 9.0)))
    again.write()
    table = read_parquet(run.training_table)
    assert table["epoch"].tolist() == [*kept, finished + 1, finished + 1]
    assert table["loss"].tolist()[-2:] == [9.0, 9.0]


def test_a_log_without_rows_writes_no_table(tmp_path):
    run = RunDirectory(tmp_path)
    TrainingLog(run, finished_epochs=0).write()
    assert not run.training_table.exists()
