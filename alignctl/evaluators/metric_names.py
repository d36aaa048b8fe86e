"""Which rows of an alignment table are of which metric; older tables in today's names."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import pandas as pd

from alignctl.config.metric_configs import AnyMetric, RsaConfig, parse_metric
from alignctl.errors import ConfigError
from alignctl.metrics.pairs import num_pairs, num_pairs_of_compared

_KEY = ["epoch", "split", "representation", "reference", "objective"]
_COUNTS = ["num_sampled_images", "num_sampled_pairs"]
SAMPLE_COLUMNS = [*_COUNTS, "sample_seed"]


def rows_of(table: pd.DataFrame, metrics: Sequence[AnyMetric]) -> dict[AnyMetric, pd.DataFrame]:
    """The rows that answer each metric, of the same models and split once.

    A row without a sample answers its metric with any limit that would have taken none.
    """
    whole = table[_COUNTS].isna().all(axis=1)
    exact_names = table["metric"].map(_exact_name)
    found = {}
    for metric in metrics:
        rows = table[table["metric"] == metric.identifier]
        if metric.exact_identifier != metric.sampled_identifier:
            same = whole & (exact_names == metric.exact_identifier)
            others = table[same & ~table["num_images"].map(metric.is_sampled).astype(bool)]
            rows = pd.concat([rows, others]).drop_duplicates(_KEY)
        found[metric] = rows
    return found


@cache
def _exact_name(name: str) -> str:
    metric = _metric_of(name)
    # Only names of today: those of older versions may stand for other numbers.
    return metric.exact_identifier if metric and metric.identifier == name else name


def _metric_of(name: str) -> AnyMetric | None:
    try:
        return parse_metric(name)
    except ConfigError:
        return None


class _Named(NamedTuple):
    metric: str
    num_sampled_images: int | None = None
    num_sampled_pairs: int | None = None
    sample_seed: int | None = None


def with_sample_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table with what was sampled in columns, which older versions wrote into the name.

    Their names had the limit and the seed of the sample where there was one, and neither where
    there was none.
    """
    if len(table) and "metric" in table and not set(_COUNTS) & set(table):
        counts = table["num_images"] if "num_images" in table else [0] * len(table)
        cells = zip(table["metric"], counts, table["value"].notna(), strict=True)
        named = [_renamed(*cell) for cell in cells]
        new = pd.DataFrame(named, columns=list(_Named._fields), index=table.index)
        table = table.assign(**{name: new[name] for name in _Named._fields})
    return table.astype({name: "Int64" for name in SAMPLE_COLUMNS if name in table})


@cache
def _renamed(name: str, num_images: Any, has_value: bool) -> _Named:
    metric = _metric_of(name)
    if metric is None or metric.exact_identifier == metric.sampled_identifier:
        return _Named(name)
    if name == metric.exact_identifier and metric.is_sampled(num_images):
        return _Named(metric.exact_up_to(int(num_images)).identifier)  # it had a higher limit
    if name != metric.sampled_identifier:
        return _Named(name)
    seed: int = getattr(metric, "seed")  # noqa: B009 (of every metric that is sampled)
    if isinstance(metric, RsaConfig):
        # A row without a value has the number of all images, others that of the compared ones.
        count = num_pairs_of_compared if has_value else num_pairs
        pairs = count(int(num_images), metric.pairs)
        return _Named(metric.identifier, num_sampled_pairs=pairs, sample_seed=seed)
    return _Named(metric.identifier, num_sampled_images=int(num_images), sample_seed=seed)
