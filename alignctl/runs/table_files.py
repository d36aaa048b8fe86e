"""Tables on disk: parquet for us, CSV for people; written atomically, joined on the epoch."""

from pathlib import Path

import pandas as pd

from alignctl.errors import CheckpointError
from alignctl.runs.atomic import write_atomically


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Replace a parquet table, whose pages carry checksums."""
    write_atomically(
        path,
        lambda beside: table.to_parquet(
            beside, index=False, engine="pyarrow", write_page_checksum=True
        ),
    )


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Replace a CSV table; missing values are empty cells."""
    write_atomically(path, lambda beside: table.to_csv(beside, index=False))


def read_parquet(path: Path) -> pd.DataFrame:
    """A table, or an empty one where the file does not exist; CheckpointError when damaged."""
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path, engine="pyarrow", page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
