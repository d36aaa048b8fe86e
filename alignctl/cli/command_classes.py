"""The classes behind all groups and commands: --verbose, misspelt words, words after --compare."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from alignctl.cli.usage_errors import UsageError, place_of
from alignctl.errors import ConfigError

_COMPARE = "--compare"
_VERBOSE = "alignctl.verbose"


def is_verbose(ctx: Any) -> bool:
    """Whether --verbose stands anywhere on the command line, before or after a subcommand."""
    return bool(ctx.meta.get(_VERBOSE))


def _remember(ctx: typer.Context, value: bool) -> None:
    if value:
        ctx.meta[_VERBOSE] = True  # one dictionary for a context and all below it


@cache
def _verbose_option() -> Any:
    """--verbose as Typer makes it: Typer has no public class of options."""
    made = typer.Typer(add_completion=False)

    @made.command()
    def takes_it(
        verbose: Annotated[
            bool,
            typer.Option(
                "--verbose",
                "-v",
                callback=_remember,
                is_eager=True,  # wrong values of other options are told after it
                expose_value=False,
                help="Show tracebacks.",
            ),
        ] = False,
    ) -> None: ...

    return typer.main.get_command(made).params[0]


class _Verbose:
    """Takes --verbose, and tells every wrong word of its own with its name."""

    params: list[Any]

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.append(_verbose_option())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; what Typer raises has its context, which some parsers leave out."""
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc, no-any-return]
        except UsageError as error:
            if getattr(error, "ctx", None) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise


class Command(_Verbose, TyperCommand):
    """A command without subcommands."""


class ComputingCommand(Command):
    """A command that needs its working directory, where runs lie.

    Without one Intel's MKL ends the process while torch is imported, and gives no reason.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run it; FileNotFoundError where the working directory is gone."""
        Path.cwd()
        return super().invoke(ctx)


class WordsCommand(ComputingCommand):
    """A command whose `--compare` takes all names of objectives that follow it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after each was given an option of its own."""
        return super().parse_args(ctx, list(spread(args)))


class Group(_Verbose, TyperGroup):
    """A command that has subcommands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The subcommand that the words start with; ConfigError where there is none."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            from alignctl.config.validation import unknown

            raise ConfigError(place_of(ctx) + unknown("a command", args[0], self.commands))
        return super().resolve_command(ctx, args)


def group(text: str) -> typer.Typer:
    """A command that has subcommands, described by this text."""
    return typer.Typer(
        cls=Group,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def spread(words: Sequence[str]) -> Iterator[str]:
    """`--compare nscl scl runs/x` as `--compare nscl --compare scl runs/x`.

    The word after the option belongs to it; those behind it do where they name an objective.
    """
    takes_names = False
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        follows_option = place > 0 and words[place - 1] == _COMPARE
        if takes_names and not follows_option and word in _objective_names():
            yield _COMPARE
        elif not follows_option:
            takes_names = word == _COMPARE or word.startswith(f"{_COMPARE}=")
        yield word


def _objective_names() -> tuple[str, ...]:
    from alignctl.config.objective_configs import ObjectiveName

    return get_args(ObjectiveName)
