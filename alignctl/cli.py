"""The command line: thin functions, and the one place where it ends."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from alignctl import __version__
from alignctl.cli_analysis import compare, eval_alignment, verify, weight_gap
from alignctl.cli_config import config_app
from alignctl.cli_errors import CAUGHT, FAILED, HANDLED, INTERRUPTED, named, report
from alignctl.cli_options import (
    ComputingCommand,
    Config,
    ConfigFile,
    DryRun,
    Json,
    NProc,
    Overrides,
    RunDir,
    Timeout,
    Verbose,
    WordsCommand,
    group,
)
from alignctl.cli_output import print_plan, print_result, split_words
from alignctl.cli_streams import forgiving_streams
from alignctl.engine.streams import open_closed_streams
from alignctl.errors import AlignctlError


class _Group(TyperGroup):
    """The commands, behind one handler of errors."""

    def invoke(self, ctx: Any) -> Any:
        from alignctl.engine.signals import preemption_is_an_error

        try:
            with preemption_is_an_error():
                return super().invoke(ctx)
        except CAUGHT as error:
            known = named(error)
            if not isinstance(known, HANDLED):
                raise
            verbose = "-v" in sys.argv or "--verbose" in sys.argv
            raise typer.Exit(report(known, verbose=verbose)) from error


app = typer.Typer(
    cls=_Group,
    help="How alike do networks become when only the training objective differs?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
sweep_app = group("Train and evaluate a study at several values of one setting.")
report_app = group("Turn the tables of runs into something to read.")
report_to_app = group("Choose the format.")
app.add_typer(sweep_app, name="sweep")
app.add_typer(report_app, name="report")
report_app.add_typer(report_to_app, name="to")
app.add_typer(config_app, name="config")


def _version(asked: bool) -> None:
    if asked:
        from alignctl.console import print_text

        print_text(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


@app.command(cls=ComputingCommand)
def pretrain(
    config: Config = None,
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    run_dir: RunDir = None,
    nproc: NProc = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the last checkpoint; dataset.path=DIR says where its data have moved.",
        ),
    ] = False,
    timeout: Timeout = 1800.0,
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train all objectives of a study in lock step: same weights, batches and views."""
    from alignctl.commands import pretrain as command
    from alignctl.console import print_line, print_table

    config, changes = split_words(config, overrides, config_file)
    plan = command.plan(config, changes, run_dir=run_dir, nproc=nproc, resume=resume)
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan, json_output=as_json, timeout_s=timeout)
    if as_json:
        return print_result(result)
    if plan.finished:
        print_line(f"{result.run}: finished already")
    rows = [(name, loss) for name, loss in result.losses.items()]
    print_table(f"Loss in epoch {result.epochs}", ("objective", "loss"), rows)
    print_line(f"{result.run}: {result.epochs} epochs in {result.training_s:.0f} s of training")
    return print_line("next: alignctl eval-alignment, alignctl weight-gap")


for measure in (eval_alignment, compare, weight_gap, verify):
    app.command(cls=WordsCommand)(measure)


@app.command(cls=ComputingCommand)
def doctor(as_json: Json = False, verbose: Verbose = False) -> None:
    """What this machine has, and whether processes can work together on it: for bug reports."""
    from alignctl.commands import doctor as command
    from alignctl.console import print_table

    result = command.run()
    if as_json:
        print_result(result)
    else:
        print_table(*command.table_of(result))
    if not result.ok:
        raise AlignctlError(command.failure(result))


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
    verbose: Verbose = False,
) -> None:
    """Train and evaluate a study at several temperatures; finished ones are skipped."""
    from alignctl.commands import sweep as command
    from alignctl.console import print_line, print_table

    config, changes = split_words(config, overrides, config_file)
    plan = command.plan("temperature", config, changes, values=values, run_dir=run_dir, nproc=nproc)
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan, json_output=as_json, timeout_s=timeout)
    if as_json:
        print_result(result)
    else:
        columns, rows = command.table_of(result)
        print_table(f"Similarity to {result.reference} after the last epoch", columns, rows)
        print_line(f"{result.sweep}: {len(plan.values) - len(result.failures)} values done")
    if result.failures:
        lines = [f"{value}: {reason}" for value, reason in result.failures.items()]
        raise AlignctlError("these values failed:\n" + "\n".join(lines))
    return None


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
    verbose: Verbose = False,
) -> None:
    """Write report.md with figures: losses, alignment, weight gap, and what was run."""
    from alignctl.commands import report as command
    from alignctl.console import print_line

    plan = command.plan(runs or (), output=output)
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan)
    if as_json:
        return print_result(result)
    for answer in result.answers:
        print_line(answer)
    return print_line(f"{result.report}: written, with {len(result.figures)} figures")


def main() -> None:
    """Run the command line; exit code 1 where it did its work and standard output lost a part."""
    open_closed_streams()
    with forgiving_streams() as lost:
        code = _ended()
        sys.stdout.flush()
        if lost.reason and not code:
            from alignctl.console import print_error

            print_error(f"standard output: cannot be written: {lost.reason}")
            code = FAILED
    sys.exit(code)


def _ended() -> Any:
    """The exit code of the command that the words name, once it has run."""
    try:
        app()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        return end.code
    return 0
