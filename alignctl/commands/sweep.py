"""Train and evaluate a study at several values of one setting, one run for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignctl.commands import eval_alignment, pretrain
from alignctl.commands.found_data import found_data
from alignctl.commands.subject import of_run, others
from alignctl.config import StudyConfig
from alignctl.config.base import expanded
from alignctl.config.execution import needing_proof, proofs
from alignctl.config.load import apply_overrides, load_study, parse_yaml, validate_study
from alignctl.config.metric_configs import USUAL_OF_RUNS
from alignctl.engine.events import Event, Listener, ignore, warning
from alignctl.engine.launchers import refuse_other_launchers
from alignctl.engine.placement import available_cores, parse_nproc
from alignctl.errors import AlignctlError, ConfigError, PreemptedError
from alignctl.runs import Manifest, RunDirectory
from alignctl.runs.directory import RUNS, obstacle, refuse_undecodable
from alignctl.runs.lock import is_lock_file, run_lock
from alignctl.runs.sweep_folder import SweepDescription, SweepDirectory, value_of

# What can be swept: its name on the command line, and the config's key.
PARAMETERS = {"temperature": "temperature"}
REPRESENTATION = "h"


@dataclass(frozen=True)
class SweepPlan:
    """One study for each value, in the order of the values."""

    parameter: str
    values: tuple[Any, ...]
    studies: tuple[StudyConfig, ...]
    sweep: SweepDirectory
    nproc: str

    @property
    def reference(self) -> str:
        """What the others are compared with: cl, or the first objective where cl is not trained."""
        names = self.studies[0].objective_names
        return "cl" if "cl" in names else names[0]

    def label(self, value: Any) -> str:
        """What events and errors call the run of a value."""
        return f"{self.parameter}={value}"

    def summary(self) -> dict[str, Any]:
        """The plan for --dry-run."""
        runs = [str(self.sweep.run(self.parameter, value).path) for value in self.values]
        return {
            "sweep": str(self.sweep.path),
            "parameter": PARAMETERS[self.parameter],
            "runs": runs,
            "reference": self.reference,
            **found_data(self.studies[0]),
            "study": self.studies[0].model_dump(mode="json", exclude={self.parameter}),
        }


@dataclass(frozen=True)
class SweepResult:
    """The similarities after the last epoch at every value that finished."""

    sweep: str
    parameter: str
    reference: str
    rows: list[dict[str, Any]]
    """The rows of the last epoch: the swept setting, split, objective, metric, value."""
    failures: dict[str, str]
    """Why a value failed, by `parameter=value`."""


def plan(
    parameter: str,
    config: str | None,
    overrides: Sequence[str],
    *,
    values: str,
    run_dir: Path | None,
    nproc: str,
    notify: Callable[[str], None] | None = None,
) -> SweepPlan:
    """A validated study for every value; ConfigError before anything starts.

    notify: told what became of the keys of a config of the original code.
    """
    key = PARAMETERS[parameter]
    chosen = _parse_values(values)
    base = load_study(config, overrides, notify=notify).model_dump(mode="json")
    studies = tuple(
        validate_study(apply_overrides(base, [f"{key}={value}"]), f"--values {value}")
        for value in chosen
    )
    # As validated: 1 and 1.0 are one run.
    chosen = tuple(value_of(study, key) for study in studies)
    parse_nproc(nproc)
    sweep = SweepDirectory(
        expanded(run_dir)
        if run_dir
        else _folder_for(f"{studies[0].name}-{parameter}", studies[0], key)
    )
    difference = sweep.difference(studies[0], key) if sweep.exists else None
    if difference:
        raise ConfigError(
            f"{sweep.path}: holds another sweep ({difference}); choose another --run-dir"
        )
    if not sweep.exists and not _is_free(sweep.path):
        raise ConfigError(f"{sweep.path}: exists and holds no sweep; choose another --run-dir")
    refuse_undecodable(sweep.path)
    if (blocked := obstacle(sweep.path)) and blocked.path == sweep.path:
        raise ConfigError(f"{blocked.path}: is {blocked.kind}; choose another --run-dir")
    made = SweepPlan(parameter, chosen, studies, sweep, nproc)
    others(studies[0].objective_names, made.reference, where=studies[0].name)
    return made


def _is_free(path: Path) -> bool:
    if not path.exists():
        return True
    return path.is_dir() and all(map(is_lock_file, path.iterdir()))


def _parse_values(text: str) -> tuple[Any, ...]:
    values = parse_yaml(f"[{text}]", f"--values '{text}'")
    if not values or not all(isinstance(value, int | float) for value in values):
        raise ConfigError(f"--values: '{text}' is not a list of numbers such as 0.1,0.5,1.0")
    if len(set(values)) < len(values):
        raise ConfigError(f"--values: '{text}' names a value twice")
    return tuple(values)


def _folder_for(name: str, study: StudyConfig, key: str) -> Path:
    """`runs/NAME` where it is free or holds this very sweep, else `runs/NAME-2`, ...

    Data from another place may be other data: only --run-dir says that they are the same.
    """
    path, number = RUNS / name, 1
    while path.exists():
        sweep = SweepDirectory(path)
        if sweep.exists and sweep.difference(study, key) is None:
            before = sweep.description().study
            if not needing_proof(before, study):
                break
        number += 1
        path = RUNS / f"{name}-{number}"
    return path


def run(plan: SweepPlan, listener: Listener = ignore, *, timeout_s: float = 1800.0) -> SweepResult:
    """Train and evaluate what is not finished yet; failing values do not stop the others.

    The listener is told of every value, and what its training and its evaluation tell.
    """
    refuse_other_launchers()
    with run_lock(plan.sweep.path, "sweep"):
        return _run(plan, listener, timeout_s=timeout_s)


def _run(plan: SweepPlan, listener: Listener, *, timeout_s: float) -> SweepResult:
    known = plan.sweep.description().values if plan.sweep.exists else ()
    values = (*known, *(value for value in plan.values if value not in known))
    key = PARAMETERS[plan.parameter]
    description = SweepDescription(plan.parameter, key, values, plan.studies[0])
    plan.sweep.describe(description)
    failures: dict[str, str] = {}
    for value, study in zip(plan.values, plan.studies, strict=True):
        label = plan.label(value)
        try:
            _run_one(plan, value, study, listener, timeout_s=timeout_s)
        except PreemptedError as error:
            raise PreemptedError(
                f"{plan.sweep.path}: stopped at {label}, all is saved; run the same sweep again"
            ) from error
        except AlignctlError as error:
            failures[label] = str(error)
            listener(_state_of(label, "failed"))
    return _collect(plan, description, failures)


def _run_one(
    plan: SweepPlan,
    value: Any,
    study: StudyConfig,
    listener: Listener,
    *,
    timeout_s: float,
) -> None:
    directory = plan.sweep.run(plan.parameter, value)
    training = pretrain.plan_study(study, run=directory.path, nproc=plan.nproc, resume=True)
    state = "trained already" if training.finished else "training"
    listener(_state_of(plan.label(value), state))
    pretrain.run(training, listener, timeout_s=timeout_s)
    _refuse_other_data(plan, directory)
    options = eval_alignment.EvalOptions(
        reference=plan.reference,
        representations=(REPRESENTATION,),
        nproc=_nproc_for_evaluation(plan.nproc),
    )
    subject = of_run(str(directory.path))
    subject = replace(subject, source=subject.source.with_config(study))
    evaluation = eval_alignment.plan(subject, options)
    if value == plan.values[0]:  # of the others it would be the same
        for line in evaluation.warnings:
            listener(warning(line))
    eval_alignment.run(evaluation, listener)


def _state_of(label: str, state: str) -> Event:
    return {"event": "value", "label": label, "state": state}


def _refuse_other_data(plan: SweepPlan, run: RunDirectory) -> None:
    """AlignctlError where a run was trained on other data than another run of its sweep."""
    mine = Manifest.read(run.manifest_file)
    for other in plan.sweep.runs(plan.sweep.description()).values():
        theirs = Manifest.read(other.manifest_file)
        for what in proofs(StudyConfig):
            pair = getattr(mine, what), getattr(theirs, what)
            if None not in pair and pair[0] != pair[1]:
                raise AlignctlError(
                    f"{run.path}: its {what.replace('_', ' ')} are others than those of "
                    f"{other.path}, so the two are no sweep; remove one of them"
                )


def _nproc_for_evaluation(nproc: str) -> str:
    """As for training, where more processes may be asked for than there are cores."""
    asked = parse_nproc(nproc)
    return nproc if asked is None or asked <= available_cores() else "auto"


def _collect(
    plan: SweepPlan, description: SweepDescription, failures: dict[str, str]
) -> SweepResult:
    """Write the table over all runs of the sweep and return its last epoch."""
    import pandas as pd

    from alignctl.evaluators.alignment_table import AlignmentRow, read_table, select
    from alignctl.runs.table_files import write_csv, write_parquet

    parts = []
    for value, run in plan.sweep.runs(description).items():
        table = read_table(run)
        table.insert(0, plan.parameter, value)
        if len(table):
            parts.append(table)
    empty = pd.DataFrame(columns=[plan.parameter, *AlignmentRow.__dataclass_fields__])
    whole = pd.concat(parts, ignore_index=True) if parts else empty
    write_parquet(plan.sweep.table, whole)
    write_csv(plan.sweep.csv, whole)
    last = whole[whole["epoch"] == plan.studies[0].training.epochs]
    last = select(last, reference=plan.reference, representation=REPRESENTATION)
    last = last[last["metric"].isin(USUAL_OF_RUNS)].dropna(subset="value")
    columns = [plan.parameter, "split", "objective", "metric", "value"]
    rows = [{str(key): value for key, value in row.items()}
            for row in last[columns].to_dict("records")]  # fmt: skip
    return SweepResult(str(plan.sweep.path), plan.parameter, plan.reference, rows, failures)
