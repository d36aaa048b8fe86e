"""Ids that stand among the features, as numpy.c_[ids, features] puts them."""

import torch

from alignctl.features.feature_files import FeatureFile

_ROWS_SEEN = 64  # few: a row may be wide
_FEWEST_ROWS = 8  # below, features may be whole and distinct by chance


def columns_like_ids(file: FeatureFile) -> list[int]:
    """Numbers of the columns that hold a different whole number in each row, beside others.

    Looks at the first rows. Empty where all columns hold whole numbers: features that were
    quantised.
    """
    rows = file.rows(slice(0, _ROWS_SEEN)).double()
    if len(rows) < _FEWEST_ROWS:
        return []
    is_whole = (rows == rows.round()).all(dim=0)
    if is_whole.all():
        return []
    columns = is_whole.nonzero().ravel().tolist()
    return [column for column in columns if len(torch.unique(rows[:, column])) == len(rows)]
