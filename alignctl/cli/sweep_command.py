"""`alignctl sweep`: its subcommands, and what they print."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignctl.cli.command_classes import ComputingCommand, group
from alignctl.cli.options import (
    Config,
    ConfigFile,
    DryRun,
    Json,
    NProc,
    Overrides,
    RunDir,
    Timeout,
    split_words,
)
from alignctl.errors import AlignctlError

if TYPE_CHECKING:
    from alignctl.commands.sweep import SweepPlan, SweepResult

sweep_app = group("Train and evaluate a study at several values of one setting.")


@sweep_app.command("temperature", cls=ComputingCommand)
def sweep_temperature(
    config: Config = None,
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    values: Annotated[str, typer.Option(help="Temperatures, separated by commas.")] = "0.1,0.5,1.0",
    run_dir: RunDir = None,
    nproc: NProc = "auto",
    timeout: Timeout = 1800.0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train and evaluate a study at several temperatures; finished ones are skipped."""
    from alignctl.cli.terminal import print_notice, print_plan, print_result
    from alignctl.commands import sweep as command

    config, changes = split_words(config, overrides, config_file)
    plan = command.plan(
        "temperature",
        config,
        changes,
        values=values,
        run_dir=run_dir,
        nproc=nproc,
        notify=print_notice,
    )
    if dry_run:
        return print_plan(plan.summary())
    from alignctl.cli.progress_views import SweepView

    with SweepView(json_output=as_json) as view:
        result = command.run(plan, listener=view, timeout_s=timeout)
    if as_json:
        print_result(result)
    else:
        _print(plan, result)
    if result.failures:
        lines = [f"{value}: {reason}" for value, reason in result.failures.items()]
        raise AlignctlError("these values failed:\n" + "\n".join(lines))
    return None


def _print(plan: "SweepPlan", result: "SweepResult") -> None:
    from alignctl.cli.terminal import print_line, print_table

    columns, rows = table_of(result)
    print_table(f"Similarity to {result.reference} after the last epoch", columns, rows)
    print_line(f"{result.sweep}: {len(plan.values) - len(result.failures)} values done")


def table_of(result: "SweepResult") -> tuple[list[str], list[list[Any]]]:
    """Columns and rows to print: one line per value and split, CKA then RSA of every objective."""
    from alignctl.config.metric_configs import heading

    keys = list(dict.fromkeys((row["metric"], row["objective"]) for row in result.rows))
    lines: dict[tuple[Any, str], dict[tuple[str, str], float]] = {}
    for row in result.rows:
        line = lines.setdefault((row[result.parameter], row["split"]), {})
        line[row["metric"], row["objective"]] = row["value"]
    keys.sort(key=lambda key: key[0])
    columns = [result.parameter, "split", *(f"{heading(metric)} {name}" for metric, name in keys)]
    rows = [[f"{value:g}", split, *map(line.get, keys)] for (value, split), line in lines.items()]
    return columns, rows
