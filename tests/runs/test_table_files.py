import pandas as pd
import pytest

from alignctl.errors import CheckpointError
from alignctl.runs.table_files import read_parquet, write_csv, write_parquet

TABLE = pd.DataFrame({"epoch": [0, 10], "objective": ["cl", "ce"], "value": [0.1 + 0.2, None]})


def test_a_parquet_table_comes_back_to_the_last_bit(tmp_path):
    write_parquet(tmp_path / "folder" / "table.parquet", TABLE)
    found = read_parquet(tmp_path / "folder" / "table.parquet")
    pd.testing.assert_frame_equal(found, TABLE, check_exact=True)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["table.parquet"]


def test_a_csv_table_has_no_index_and_empty_cells_for_what_is_missing(tmp_path):
    write_csv(tmp_path / "table.csv", TABLE)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines == ["epoch,objective,value", "0,cl,0.30000000000000004", "10,ce,"]


def test_a_table_that_was_not_written_yet_is_empty(tmp_path):
    assert read_parquet(tmp_path / "none.parquet").empty


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet(path, TABLE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=r"table\.parquet: cannot be read: "):
        read_parquet(path)


def test_a_table_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet(path, TABLE)
    write_parquet(path, TABLE[:1])
    assert read_parquet(path)["epoch"].tolist() == [0]
