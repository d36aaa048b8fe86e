"""The markdown report of runs and sweeps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from alignctl.config import StudyConfig
from alignctl.config.base import ConfigModel
from alignctl.config.metric_configs import main_metrics, name_with_sample, short_name
from alignctl.reporting import figures
from alignctl.reporting.answers import answer, exceptions
from alignctl.reporting.table_sources import RunTables, SweepTables
from alignctl.runs import Manifest
from alignctl.runs.atomic import write_text

_BY_ANOTHER = "**Trained by another program, whose checkpoints are measured where they lie.**"


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk."""

    report: Path
    figures: tuple[Path, ...]
    answers: tuple[str, ...]


def write_report(sources: Sequence[RunTables | SweepTables], folder: Path) -> WrittenReport:
    """report.md and figures/ in a folder: one section for each run or sweep."""
    writer = _Writer(folder)
    answers = []
    for number, source in enumerate(sources, start=1):
        if len(sources) > 1:
            writer.prefix = f"{number}_{source.name}_"  # two runs may have one name
        section = writer.run if isinstance(source, RunTables) else writer.sweep
        answers.append(section(source))  # type: ignore[arg-type]
    path = folder / "report.md"
    write_text(path, "\n".join(writer.lines).rstrip() + "\n")
    return WrittenReport(path, tuple(writer.figures), tuple(answers))


class _Writer:
    """Collects lines, and draws figures beside them."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self.figures: list[Path] = []
        self.prefix = ""
        self._folder = folder

    def run(self, source: RunTables) -> str:
        """One run's section; returns its answer."""
        rows, names = main_rows(source.alignment), source.study.objective_names
        found = answer(rows, source.study)
        self._text(f"# {source.name}", found, *exceptions(rows, source.study))
        if not source.models.records_training:
            self._text(_BY_ANOTHER)
        elif source.manifest.status != "finished":
            epochs = f"{source.manifest.finished_epochs} of {source.study.training.epochs} epochs"
            self._text(f"**This run is {source.manifest.status}: {epochs} are recorded.**")
        self._text("## Similarity of representations")
        if rows.empty:
            self._text("Not evaluated yet: run `alignctl eval-alignment`.")
        else:
            if main_metrics(rows["metric"]):
                self._figure("alignment", figures.alignment_curves(rows, names))
            self._text(*_alignment_tables(rows, names), *_interval_table(rows))
        self._text("## Weight gap")
        gaps = main_rows(source.weight_gap)
        if gaps.empty:
            self._text("Not measured yet: run `alignctl weight-gap`.")
        else:
            self._figure("weight_gap", figures.weight_gap_curves(gaps, names))
            self._text(_weight_gap_table(gaps, names))
        self._text("## Training")
        if not source.models.records_training:
            self._text("Nothing of it was recorded here.")
        if not source.training.empty:
            self._figure("losses", figures.loss_curves(source.training, names))
        describe = _provenance if source.models.records_training else _known_of_other_program
        self._text(*describe(source))
        return found

    def sweep(self, source: SweepTables) -> str:
        """One sweep's section; returns its answers, one for each value."""
        parameter, study = source.description.parameter, source.description.study
        rows = main_rows(source.alignment)
        last = rows[rows["epoch"] == study.training.epochs] if len(rows) else rows
        groups: Iterable[Any] = last.groupby(parameter) if len(last) else ()
        answers = [f"{parameter} {value:g}: {answer(part, study)}" for value, part in groups]
        missing = set(source.description.values) - set(last[parameter] if len(last) else ())
        self._text(f"# {source.name}", *(f"- {line}" for line in answers))
        if missing:
            listed = ", ".join(f"{value:g}" for value in sorted(missing))
            self._text(f"**Not finished: {parameter} {listed}.**")
        if len(last):
            self._text(f"## Similarity after epoch {study.training.epochs}")
            if main_metrics(last["metric"]):
                curves = figures.sweep_curves(last, parameter, study.objective_names)
                self._figure("sweep", curves)
            self._text(*_sweep_tables(last, parameter, study.objective_names))
        if source.runs:
            self._text(*_provenance(source.runs[0], without=source.description.key))
        return "\n".join(answers) or "Nothing has finished yet."

    def _text(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            self.lines += [paragraph, ""]

    def _figure(self, name: str, figure: Figure) -> None:
        file = f"{self.prefix}{name}.png"
        path = self._folder / "figures" / file
        figures.save(figure, path)
        self.figures.append(path)
        self._text(f"![{name.replace('_', ' ')}](figures/{file})")


def main_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that a report is about: `h` against `cl`, or the first comparison there is."""
    for column, usual in (("representation", "h"), ("reference", "cl")):
        if len(table) and column in table:
            there = set(table[column])
            table = table[table[column] == (usual if usual in there else min(there))]
    return table


def _alignment_tables(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    reference = str(rows["reference"].iloc[0])
    tables = []
    for split, part in rows.groupby("split", sort=False):
        images = int(part["num_images"].max())
        space = str(part["representation"].iloc[0])
        title = f"Similarity of {space} to {reference}, {images:,} {split} images:"
        tables.append(f"{title}\n\n{_by_objective(part, names, index='epoch')}")
    return tables


def _interval_table(rows: pd.DataFrame) -> list[str]:
    """Scores of the last epoch with their intervals and p-values; empty where none was measured."""
    if "ci_low" not in rows or rows["ci_low"].isna().all():
        return []
    last = rows[(rows["epoch"] == rows["epoch"].max()) & rows["ci_low"].notna()]
    header = ["split", "objective", "metric", "value", "low", "high", "confidence", "p"]
    numbers = ["value", "ci_low", "ci_high"]
    lines = [
        [
            row["split"],
            row["objective"],
            _metric_name(row),
            *(_cell(row[key]) for key in numbers),
            f"{row['confidence']:g}",
            _cell(row["p_value"]),
        ]
        for row in last.to_dict("records")
    ]
    if last["p_value"].isna().all():
        header, lines = header[:-1], [line[:-1] for line in lines]
    epoch = int(rows["epoch"].max())
    kinds = ", ".join(sorted(set(last["interval"].dropna()))) if "interval" in last else ""
    title = f"Confidence intervals over images{kinds and f' ({kinds})'}, epoch {epoch}:"
    return [f"{title}\n\n{markdown_table(header, lines)}"]


def _sweep_tables(rows: pd.DataFrame, parameter: str, names: Sequence[str]) -> list[str]:
    return [
        f"On {split}:\n\n{_by_objective(part, names, index=parameter)}"
        for split, part in rows.groupby("split", sort=False)
    ]


def _by_objective(rows: pd.DataFrame, names: Sequence[str], *, index: str) -> str:
    """A line for each epoch or setting, a column for each metric and objective, as named."""
    rows = rows.assign(metric=[_metric_name(row) for row in rows.to_dict("records")])
    wide = rows.pivot_table(index=index, columns=["metric", "objective"], values="value")
    metrics = list(dict.fromkeys(rows["metric"]))
    keys = [(metric, name) for metric in metrics for name in names if (metric, name) in wide]
    header = [index, *(f"{metric} {name}" for metric, name in keys)]
    values = [
        [f"{place:g}", *(_cell(wide.loc[place, key]) for key in keys)] for place in wide.index
    ]
    return markdown_table(header, values)


def _metric_name(row: Mapping[Any, Any]) -> str:
    """The short name, with the options of the sample where one was taken.

    Tables of older versions have these in the name, and no columns for what was sampled.
    """
    counts = [row.get(f"num_sampled_{unit}") for unit in ("images", "pairs")]
    name = str(row["metric"])
    return short_name(name) if all(map(pd.isna, counts)) else name_with_sample(name)


def _cell(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:.4f}"


def _weight_gap_table(weight_gap: pd.DataFrame, names: Sequence[str]) -> str:
    rows = weight_gap[weight_gap["quantity"] != "layer"]
    wide = rows.pivot_table(index="epoch", columns=["quantity", "objective"], values="value")
    titles = {"mean": "mean", "total": "total", "angle_degrees": "angle°"}
    keys = [(key, name) for key in titles for name in names if (key, name) in wide]
    header = ["epoch", *(f"{titles[quantity]} {name}" for quantity, name in keys)]
    values = [[str(epoch), *(_cell(wide.loc[epoch, key]) for key in keys)] for epoch in wide.index]
    return markdown_table(header, values)


def _provenance(source: RunTables, without: str | None = None) -> list[str]:
    manifest = source.manifest
    versions = ", ".join(f"{name} {value}" for name, value in manifest.versions.items())
    machine = ", ".join(f"{name} {value}" for name, value in manifest.machine.items())
    rows = [
        *_settings(source.study, without),
        ["run", f"`{source.path}`, started {manifest.started_at}, {manifest.status}"],
        ["training time", f"{manifest.training_s:.0f} s in {_processes(manifest)}"],
        ["machine", machine],
        ["versions", versions],
        ["git commit", manifest.git_commit or "not in a git checkout"],
    ]
    digests = set(manifest.initial_weights.values())
    same = (
        f"All {len(manifest.initial_weights)} models started from the same weights "
        f"(SHA-256 {digests.pop()[:16]}...), and all processes saw the same batches and views "
        f"in each of {len(manifest.batches)} epochs."
    )
    again = "The study as it was run is `config.yaml` beside `manifest.json`; run it again with "
    return [
        "## What was run",
        markdown_table(["", ""], rows),
        same,
        f"{again}`alignctl pretrain {source.path / 'config.yaml'}`.",
    ]


def _known_of_other_program(source: RunTables) -> list[str]:
    """The config as it was given, the checkpoints, and the digests of initial weights."""
    manifest = source.manifest
    versions = ", ".join(f"{name} {value}" for name, value in manifest.versions.items())
    rows = [
        *(row for row in _settings(source.study, None) if row[0] != "seed"),
        ["checkpoints", f"`{source.models.folder}`"],
        ["run", f"`{source.path}`, adopted {manifest.started_at}"],
        ["adopted with", versions],
    ]
    names = ", ".join(manifest.initial_weights)
    digests = sorted({value[:16] for value in manifest.initial_weights.values()})
    if not digests:
        start = (
            "There was no snapshot of epoch 0: "
            "whether all models began from the same weights is unknown."
        )
    elif len(digests) == 1:
        start = (
            f"The snapshots of epoch 0 of {names} hold the same weights (SHA-256 {digests[0]}...)."
        )
    else:
        listed = ", ".join(f"{digest}..." for digest in digests)
        start = f"The snapshots of epoch 0 of {names} do not hold the same weights ({listed})."
    unproven = "Whether they saw the same batches and views cannot be proven: no digests were kept."
    return [
        "## What was measured",
        "The settings are those of the config that was given with the checkpoints.",
        markdown_table(["", ""], rows),
        f"{start} {unproven}",
    ]


def _settings(study: StudyConfig, without: str | None) -> list[list[str]]:
    training = study.training
    optimizer = training.optimizer
    settings = {
        "objectives": ", ".join(study.objective_names),
        "dataset": _listed(study.dataset),
        "encoder": _listed(study.encoder),
        "temperature": f"{study.temperature:g}",
        "training": f"{training.epochs} epochs, batch {training.batch_size}, {training.precision}",
        "optimiser": f"{optimizer.name}, learning rate {optimizer.learning_rate:g}",
        "seed": str(study.seed),
    }
    return [[name, value] for name, value in settings.items() if name != without]


def _listed(choice: ConfigModel) -> str:
    """The name that was chosen, and each setting that has a value."""
    values = choice.model_dump(mode="json", exclude_none=True)
    name = values.pop("name")
    return ", ".join([name, *(f"{key} {value}" for key, value in values.items())])


def _processes(manifest: Manifest) -> str:
    return (
        f"{_count(manifest.num_processes, 'process', 'processes')} "
        f"with {_count(manifest.threads_per_process, 'thread', 'threads')} each"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub-flavoured table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
