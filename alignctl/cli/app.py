"""The application: its commands, its one handler of errors, and how its process ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from alignctl import __version__
from alignctl.cli.command_classes import ComputingCommand, Group, WordsCommand, is_verbose
from alignctl.cli.compare_command import compare
from alignctl.cli.config_command import config_app
from alignctl.cli.doctor_command import doctor
from alignctl.cli.eval_alignment_command import eval_alignment
from alignctl.cli.exit_codes import CAUGHT, FAILED, HANDLED, INTERRUPTED, named, report
from alignctl.cli.output_streams import forgiving_streams
from alignctl.cli.pretrain_command import pretrain
from alignctl.cli.report_command import report_app
from alignctl.cli.sweep_command import sweep_app
from alignctl.cli.verify_command import verify
from alignctl.cli.weight_gap_command import weight_gap
from alignctl.engine.own_process import running_a_command
from alignctl.engine.streams import open_closed_streams


class _Root(Group):
    """The commands, behind one handler of errors."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the words before the subcommand."""
        with _errors_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        from alignctl.engine.signals import preemption_is_an_error

        with _errors_in_one_line(ctx), preemption_is_an_error():
            return super().invoke(ctx)


@contextmanager
def _errors_in_one_line(ctx: Any = None) -> Iterator[None]:
    """While this is open, an error that has a line prints it, and ends with its exit code."""
    try:
        yield
    except CAUGHT as error:
        known = named(error)
        if not isinstance(known, HANDLED):
            raise
        code = report(known, verbose=ctx is not None and is_verbose(ctx))
        raise typer.Exit(code) from error


app = typer.Typer(
    cls=_Root,
    help="How alike do networks become when only the training objective differs?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=ComputingCommand)(pretrain)
for measure in (eval_alignment, compare, weight_gap, verify):
    app.command(cls=WordsCommand)(measure)
app.command(cls=ComputingCommand)(doctor)
app.add_typer(sweep_app, name="sweep")
app.add_typer(report_app, name="report")
app.add_typer(config_app, name="config")


def _version(asked: bool) -> None:
    if asked:
        from alignctl.cli.terminal import print_text

        print_text(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; exit code 1 where it did its work and standard output lost a part."""
    open_closed_streams()
    with forgiving_streams() as lost, running_a_command():
        code = _ended()
        sys.stdout.flush()
        if lost.reason and not code:
            from alignctl.cli.terminal import print_error

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
