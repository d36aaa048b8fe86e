"""What scores are of, and what their intervals are over, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignctl.config.metric_configs import short_name

_OVER = {
    "stratified": "stratified intervals: over other images with as many of each class",
    "simple": "simple intervals: over other images of any class",
    "batches": "intervals of batches: over other batches, of images of any class",
}


def interval_notes(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Lines that say over what the intervals of some scores are, and which have none, and why."""
    metrics: dict[str, list[str]] = {}
    for row in rows:
        if row["interval"] is not None:
            metrics.setdefault(row["interval"], []).append(short_name(row["metric"]))
    notes = [line for kind, line in _OVER.items() if kind in metrics]
    for reason, names in metrics.items():
        if reason not in _OVER:
            listed = ", ".join(dict.fromkeys(names))
            notes.append(f"no interval: {reason.removeprefix('none: ')} ({listed})")
    return notes


def sample_of(row: Mapping[Any, Any]) -> str | None:
    """What a score was computed of where that is not all images or pairs: `20 images, seed 0`."""
    for unit in ("images", "pairs"):
        if (count := row.get(f"num_sampled_{unit}")) is not None:
            return f"{count:,} {unit}, seed {row['sample_seed']}"
    return None
