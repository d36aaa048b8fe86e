"""Arguments, options and groups of the subcommands, as Typer reads them."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from alignctl.config.objectives import ObjectiveName
from alignctl.errors import ConfigError

_COMPARE = "--compare"


def group(text: str) -> typer.Typer:
    """A command that has subcommands, described by this text."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


class ComputingCommand(TyperCommand):
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


def spread(words: Sequence[str]) -> Iterator[str]:
    """`--compare nscl scl runs/x` as `--compare nscl --compare scl runs/x`.

    The word after the option belongs to it; those behind it do where they name an objective.
    """
    names = get_args(ObjectiveName)
    takes_names = False
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        follows_option = place > 0 and words[place - 1] == _COMPARE
        if takes_names and not follows_option and word in names:
            yield _COMPARE
        elif not follows_option:
            takes_names = word == _COMPARE or word.startswith(f"{_COMPARE}=")
        yield word


def _seconds(value: float) -> float:
    if not 0 < value < math.inf:
        raise ConfigError(f"--timeout: {value:g} is not a number of seconds above 0")
    return value


Config = Annotated[
    str | None,
    typer.Argument(help="A YAML file, or the name of a ready-made study.", show_default="digits"),
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The study, in place of the first word.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes, such as training.epochs=5."),
]
RunOrOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="A run directory or its name, and dataset.path=DIR where its data have moved; "
        "with --config, changes to that.",
        show_default="the newest under ./runs",
    ),
]
RunOnly = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="A run directory or its name.",
        show_default="the newest under ./runs",
    ),
]
RunDir = Annotated[
    Path | None,
    typer.Option(help="Where results go.", show_default="the next free ./runs/NAME"),
]
NProc = Annotated[str, typer.Option(help="Processes: auto, or a number.")]
Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        callback=_seconds,
        help="Seconds without progress after which a worker counts as hung.",
    ),
]
Reference = Annotated[str, typer.Option(help="The objective that others are compared with.")]
Compare = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OBJECTIVE...",
        help="Objectives to compare with the reference; several, or the option repeated.",
        show_default="all others",
    ),
]
StudyFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The study of --checkpoints: a YAML of ours or of the original, or a name.",
        show_default=False,
    ),
]
Checkpoints = Annotated[
    Path | None,
    typer.Option(
        "--checkpoints",
        "--ckpt_path",
        "--checkpoints_dir",
        "-ckpt",
        metavar="DIR",
        help="Checkpoints of the original in place of a RUN: dcl/snapshot_0.pth, ...",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "--output_path",
        "--output_file",
        "-out",
        metavar="DIR",
        help="A folder for the CSV tables; with --checkpoints it becomes a run directory.",
        show_default=False,
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        metavar="'NAME KEY=VALUE'",
        help="Such as 'rsa distance=euclidean'; may be repeated.",
        show_default="the usual ones",
    ),
]
Confidence = Annotated[float, typer.Option(help="Of the intervals of CKA and RSA.")]
Permutations = Annotated[int, typer.Option(help="Shuffles behind a p-value of CKA and RSA.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Ids = Annotated[
    str | None,
    typer.Option(
        "--ids",
        metavar="COLUMN",
        help="The column or key that holds ids of rows; none compares rows as they lie.",
        show_default="what looks like ids",
    ),
]
FeatureColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        metavar="PATTERN",
        help="Columns that are features, such as 'f*'; may be repeated.",
        show_default="what looks like features",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON document on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")]

# Of eval-alignment.
AllPairs = Annotated[
    bool, typer.Option("--all-pairs", help="Compare all objectives with each other.")
]
Splits = Annotated[
    list[str] | None,
    typer.Option(help="train or test; may be repeated.", show_default="those there are"),
]
Representation = Annotated[
    str,
    typer.Option(
        metavar="h|g|LAYER",
        help="The encoder's output, the projector's, or a layer's, such as encoder.layer3.",
    ),
]
Debiased = Annotated[
    bool | None,
    typer.Option("--debiased/--biased", help="Which CKA.", show_default="both"),
]
Interval = Annotated[
    str,
    typer.Option(
        metavar="stratified|simple",
        help="Over other images with as many of each class, or of any class.",
    ),
]
Every = Annotated[int | None, typer.Option(help="Only epochs divisible by this, and the last.")]
Epochs = Annotated[
    str | None,
    typer.Option(help="Epochs, separated by commas.", show_default="all that are saved"),
]
KeepFeatures = Annotated[
    bool, typer.Option("--keep-features", help="Leave them in the run as .npy, for later.")
]
