"""Arguments and options of the subcommands, as Typer reads them."""

from pathlib import Path
from typing import Annotated

import typer

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
