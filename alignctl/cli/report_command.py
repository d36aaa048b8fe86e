"""`alignctl report`: its subcommands, and what they print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignctl.cli.command_classes import ComputingCommand, group
from alignctl.cli.options import DryRun, Json

if TYPE_CHECKING:
    from alignctl.commands.report import ReportResult

report_app = group("Turn the tables of runs into something to read.")
report_to_app = group("Choose the format.")
report_app.add_typer(report_to_app, name="to")


@report_to_app.command("markdown", cls=ComputingCommand)
def report_to_markdown(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Run or sweep directories, or their names.",
            show_default="the newest run or sweep under ./runs",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write.", show_default="RUN/report")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write report.md with figures: losses, alignment, weight gap, and what was run."""
    from alignctl.cli.terminal import print_plan, print_result
    from alignctl.commands import report as command

    plan = command.plan(runs or (), output=output)
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan)
    return print_result(result) if as_json else _print(result)


def _print(result: "ReportResult") -> None:
    from alignctl.cli.terminal import print_line

    for answer in result.answers:
        print_line(answer)
    print_line(f"{result.report}: written, with {len(result.figures)} figures")
