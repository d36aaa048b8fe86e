"""Arguments and options that several subcommands have, as Typer reads them."""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from alignctl.errors import ConfigError


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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON document on stdout.")]


def split_words(
    config: str | None, overrides: Sequence[str] | None, config_file: str | None = None
) -> tuple[str | None, list[str]]:
    """The study and its overrides: the first word is one too where it has a `=` and is no file.

    config_file: what --config says; then all words are overrides.
    """
    changes = list(overrides or ())
    if config is None or ("=" in config and not _is_file(config)):
        return config_file, [*([] if config is None else [config]), *changes]
    if config_file is not None:
        raise ConfigError(
            f"--config: '{config}' names a study already; give one of the two "
            "(changes are written key=value)"
        )
    return config, changes


def _is_file(word: str) -> bool:
    from alignctl.config.base import expanded

    with suppress(OSError):  # a list of objectives may be too long for a name
        return expanded(word).is_file()
    return False
