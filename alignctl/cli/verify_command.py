"""`alignctl verify`: its options, and what it prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from alignctl.cli.options import DryRun, Json
from alignctl.errors import AlignctlError

if TYPE_CHECKING:
    from alignctl.commands.verify_runs import VerifyResult
    from alignctl.verify.check import Check

_COLUMNS: tuple[str, ...] = ("check", "result", "found")


def verify(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories or their names, all compared with the first; "
            "and dataset.path=DIR where their data have moved.",
            show_default="the newest under ./runs",
        ),
    ] = None,
    epoch: Annotated[
        int | None,
        typer.Option(help="Draw this one's batches again.", show_default="the first finished one"),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Check the proof of shared randomness: weights, checkpoints, batches and views."""
    from alignctl.cli.terminal import print_plan, print_result
    from alignctl.commands import verify_runs as command

    plan = command.plan(runs or (), epoch=epoch)
    if dry_run:
        return print_plan(plan.summary())
    from alignctl.cli.progress_views import CountView

    with CountView(json_output=as_json) as view:
        result = command.run(plan, listener=view)
    if as_json:
        print_result(result)
    else:
        _print(result)
    if not result.ok:
        raise AlignctlError(failure(result))
    return None


def _print(result: "VerifyResult") -> None:
    from alignctl.cli.terminal import print_line, print_table

    for title, columns, rows in tables_of(result):
        print_table(title, columns, rows)
    for line in conclusions(result):
        print_line(line)


def tables_of(result: "VerifyResult") -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Title, columns and rows of a table for each run and each pair."""
    tables = [(run.run, _COLUMNS, _rows(run.checks)) for run in result.runs]
    for pair in result.pairs:
        rows = _rows(pair.checks)
        rows += [["differs in", "-", setting] for setting in pair.differs_in]
        tables.append((f"{pair.run} beside {pair.reference}", _COLUMNS, rows))
    return tables


def conclusions(result: "VerifyResult") -> list[str]:
    """What follows for each pair of runs; for a run alone, that it is what it says."""
    doubtful = any(check.result != "ok" for run in result.runs for check in run.checks)
    if not result.pairs and not doubtful:
        return [f"{run.run}: all {len(run.checks)} checks are ok" for run in result.runs]
    note = ", by manifests that are not verified" if doubtful else ""
    return [f"{pair.reference} and {pair.run}: {pair.conclusion}{note}" for pair in result.pairs]


def failure(result: "VerifyResult") -> str:
    """What is not ok, in one line."""
    places = [(run.run, run.checks) for run in result.runs]
    places += [(f"{pair.run} beside {pair.reference}", pair.checks) for pair in result.pairs]
    found = []
    for where, checks in places:
        wrong = [f"{check.name} ({check.result})" for check in checks if check.result != "ok"]
        if wrong:
            found.append(f"{where}: {', '.join(wrong)}")
    return f"not verified: {'; '.join(found)}"


def _rows(checks: "Sequence[Check]") -> list[list[str]]:
    return [[check.name, check.result, check.finding] for check in checks]
