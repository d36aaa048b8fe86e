"""Arguments, options and groups of the subcommands, as Typer reads them."""

import math
from pathlib import Path
from typing import Annotated

import typer

from alignctl.errors import ConfigError


def group(text: str) -> typer.Typer:
    """A command that has subcommands, described by this text."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _seconds(value: float) -> float:
    if not 0 < value < math.inf:
        raise ConfigError(f"--timeout: {value:g} is not a number of seconds above 0")
    return value


Config = Annotated[
    str | None,
    typer.Argument(help="A YAML file, or the name of a ready-made study.", show_default="digits"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes, such as training.epochs=5."),
]
Run = Annotated[
    str | None,
    typer.Argument(help="A run directory or its name.", show_default="the newest under ./runs"),
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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON document on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")]

# Of eval-alignment.
AllPairs = Annotated[
    bool, typer.Option("--all-pairs", help="Compare all objectives with each other.")
]
Splits = Annotated[
    list[str] | None,
    typer.Option(help="train or test; may be repeated.", show_default="both"),
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
Every = Annotated[int | None, typer.Option(help="Only epochs divisible by this, and the last.")]
Epochs = Annotated[
    str | None,
    typer.Option(help="Epochs, separated by commas.", show_default="all that are saved"),
]
KeepFeatures = Annotated[
    bool, typer.Option("--keep-features", help="Leave them in the run as .npy, for later.")
]
