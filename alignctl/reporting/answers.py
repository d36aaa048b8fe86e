"""The answer in words: which supervised objective stayed closest, and by how much."""

from dataclasses import dataclass

import pandas as pd

from alignctl.config import StudyConfig
from alignctl.config.metric_configs import main_metrics, short_name


@dataclass(frozen=True)
class Ranking:
    """Supervised objectives by their similarity to the reference, the closest first."""

    metric: str
    scores: tuple[tuple[str, float], ...]

    @property
    def closest(self) -> str:
        """The objective with the highest similarity."""
        return self.scores[0][0]

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives that have a score."""
        return tuple(name for name, _ in self.scores)

    def sentence(self, reference: str) -> str:
        """`by CKA NSCL (0.830) is closest to CL, 0.150 ahead of SCL (0.680), then CE (0.670)`."""
        (first, best), *rest = self.scores
        text = f"by {short_name(self.metric)} {first.upper()} ({best:.3f}) is closest"
        text += f" to {reference.upper()}"
        if rest:
            text += f", {best - rest[0][1]:.3f} ahead of "
            text += ", then ".join(f"{name.upper()} ({value:.3f})" for name, value in rest)
        return text


def ranking(rows: pd.DataFrame, study: StudyConfig, metric: str) -> Ranking | None:
    """The supervised objectives in rows of one epoch and split; None where there is none."""
    chosen = rows[(rows["metric"] == metric) & rows["objective"].isin(_supervised(study))]
    ordered = chosen.dropna(subset="value").sort_values("value", ascending=False)
    pairs = zip(ordered["objective"], ordered["value"], strict=True)
    scores = tuple((str(name), float(value)) for name, value in pairs)
    return Ranking(metric, scores) if scores else None


def _supervised(study: StudyConfig) -> list[str]:
    return [config.name for config in study.objectives if config.uses_labels]


def answer(rows: pd.DataFrame, study: StudyConfig) -> str:
    """The answer at the last epoch with one, on test where it was evaluated.

    Supervised objectives without a score at that epoch are named.
    """
    if rows.empty:
        return "Not evaluated yet: run `alignctl eval-alignment`."
    split = "test" if "test" in set(rows["split"]) else str(rows["split"].iloc[0])
    chosen = rows[rows["split"] == split]
    epoch = _last_epoch(chosen, study)
    last = chosen[chosen["epoch"] == epoch]
    reference = str(last["reference"].iloc[0])
    metrics = main_metrics(last["metric"])
    if not metrics:
        return "Linear CKA and RSA on cosines were not measured: run `alignctl eval-alignment`."
    rankings = [found for metric in metrics if (found := ranking(last, study, metric))]
    if not rankings:
        return f"No supervised objective was compared with {reference.upper()}."
    images = int(last.loc[last["metric"].isin(metrics), "num_images"].iloc[0])
    sentences = "; ".join(found.sentence(reference) for found in rankings)
    text = f"After epoch {epoch}, on {images:,} {split} images, {sentences}."
    scored = {reference, *(name for found in rankings for name in found.names)}
    absent = [name.upper() for name in _supervised(study) if name not in scored]
    return f"{text} No score at this epoch: {', '.join(absent)}." if absent else text


def _last_epoch(rows: pd.DataFrame, study: StudyConfig) -> int:
    """The last epoch at which a supervised objective has CKA or RSA; else the last epoch."""
    is_main = rows["metric"].map(lambda metric: bool(main_metrics([metric])))
    ranked = rows[is_main & rows["objective"].isin(_supervised(study)) & rows["value"].notna()]
    return int((rows if ranked.empty else ranked)["epoch"].max())


def exceptions(rows: pd.DataFrame, study: StudyConfig) -> list[str]:
    """Epochs at which another objective was the closest than at the end, in words.

    Epoch 0 is left out, where all models are still the same, and so are epochs at which the final
    closest objective has no score.
    """
    lines: list[str] = []
    if rows.empty:
        return lines
    main = rows[rows["metric"].isin(main_metrics(rows["metric"]))]
    for (split, metric), part in main.groupby(["split", "metric"]):
        found = {
            int(str(epoch)): ranking(group, study, str(metric))
            for epoch, group in part.groupby("epoch")
            if epoch != 0
        }
        known = {epoch: rank for epoch, rank in found.items() if rank is not None}
        if not known:
            continue
        final = known[max(known)].closest
        others: dict[str, list[int]] = {}
        for epoch, rank in known.items():
            if rank.closest != final and final in rank.names:
                others.setdefault(rank.closest, []).append(epoch)
        for name, epochs in others.items():
            listed = ", ".join(map(str, epochs))
            lines.append(
                f"{short_name(str(metric))} on {split}: {name.upper()}, not {final.upper()}, "
                f"was closest at epoch {listed}."
            )
    return lines
