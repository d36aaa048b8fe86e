"""Arguments and options that several subcommands share, as Typer reads them."""

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
