"""The subcommands that measure: eval-alignment, compare, weight-gap and verify."""

from typing import Annotated

import typer

from alignctl.cli_options import (
    AllPairs,
    Checkpoints,
    Compare,
    Confidence,
    Debiased,
    Device,
    DryRun,
    Epochs,
    Every,
    FeatureColumns,
    Ids,
    Interval,
    Json,
    KeepFeatures,
    Metrics,
    NProc,
    Output,
    Permutations,
    Reference,
    Representation,
    RunOnly,
    RunOrOverrides,
    Splits,
    StudyFile,
    Verbose,
)
from alignctl.cli_output import print_plan, print_result, print_warnings
from alignctl.errors import AlignctlError


def eval_alignment(
    words: RunOrOverrides = None,
    config: StudyFile = None,
    checkpoints: Checkpoints = None,
    output: Output = None,
    reference: Reference = "cl",
    compare: Compare = None,
    all_pairs: AllPairs = False,
    split: Splits = None,
    representation: Representation = "h",
    metric: Metrics = None,
    debiased: Debiased = None,
    confidence: Confidence = 0.95,
    interval: Interval = "stratified",
    permutations: Permutations = 0,
    every: Every = None,
    epochs: Epochs = None,
    keep_features: KeepFeatures = False,
    nproc: NProc = "auto",
    device: Device = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """CKA, RSA and other similarities of a run's models, at every saved epoch, on all images."""
    from alignctl.cli_alignment import interval_lines, last_table, notes_of, tables_of
    from alignctl.commands import eval_alignment as command
    from alignctl.commands.adoption import subject_of
    from alignctl.console import print_line, print_table

    options = command.EvalOptions(
        reference=reference,
        compare=tuple(compare or ()),
        all_pairs=all_pairs,
        splits=tuple(split or ()),
        representation=representation,
        metrics=tuple(metric or ()),
        debiased=debiased,
        confidence=confidence,
        interval=interval,
        permutations=permutations,
        epochs=epochs,
        every=every,
        keep_features=keep_features,
        nproc=nproc,
        device=device,
    )
    subject = subject_of(
        words or (), config=config, checkpoints=checkpoints, output=output, needs_config=True
    )
    plan = command.plan(subject, options)
    print_warnings(plan.warnings)
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan, json_output=as_json)
    if as_json:
        return print_result(result)
    for title, columns, rows in tables_of(result, plan):
        print_table(title, columns, rows)
    print_table(*last_table(result, plan))
    for line in (*interval_lines(result), *notes_of(result, plan)):
        print_line(line)
    return print_line(f"{plan.run.alignment}: {result.evaluated} new evaluations")


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A file of features, or FILE:KEY.")],
    b: Annotated[
        str,
        typer.Argument(metavar="B", help="Another, of the same images: with ids, in any order."),
    ],
    metric: Metrics = None,
    ids: Ids = None,
    features: FeatureColumns = None,
    confidence: Confidence = 0.95,
    permutations: Permutations = 0,
    device: Device = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """All similarities of two files of features, such as .npy, .pt, .parquet or .csv.

    Also .npz, .mat, .pth, .safetensors, .feather, .arrow and .tsv. Ids of rows are never counted as
    features; where both files have them, rows are joined by them.
    """
    from alignctl.commands import compare as command
    from alignctl.console import print_line, print_table

    plan = command.plan(
        a,
        b,
        metrics=tuple(metric or ()),
        confidence=confidence,
        permutations=permutations,
        device=device,
        ids=ids,
        features=tuple(features or ()),
    )
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan)
    if as_json:
        return print_result(result)
    print_table(*command.table_of(result))
    for line in (
        *command.interval_notes(result.scores),
        *command.notes_of(result),
        *command.lines_of(result),
    ):
        print_line(line)
    return None


def weight_gap(
    words: RunOnly = None,
    config: StudyFile = None,
    checkpoints: Checkpoints = None,
    output: Output = None,
    reference: Reference = "cl",
    compare: Compare = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """The relative distance and the angle between encoder weights, at every saved epoch."""
    from alignctl.commands import weight_gap as command
    from alignctl.commands.adoption import subject_of
    from alignctl.console import print_line, print_table

    subject = subject_of(
        words or (), config=config, checkpoints=checkpoints, output=output, needs_config=False
    )
    plan = command.plan(subject, reference=reference, compare=compare or ())
    print_warnings(plan.warnings)
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan, json_output=as_json)
    if as_json:
        return print_result(result)
    columns = ("epoch", "objective", "mean", "total", "angle_degrees")
    rows = [[row[column] for column in columns] for row in result.rows]
    print_table(f"Weight gap to {plan.reference}", (*columns[:-1], "degrees"), rows)
    return print_line(f"{plan.run.weight_gap}: tables written")


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
    verbose: Verbose = False,
) -> None:
    """Check the proof of shared randomness: weights, checkpoints, batches and views."""
    from alignctl.commands import verify as command
    from alignctl.console import print_line, print_table

    plan = command.plan(runs or (), epoch=epoch)
    if dry_run:
        return print_plan(plan.summary())
    result = command.run(plan, json_output=as_json)
    if as_json:
        print_result(result)
    else:
        for title, columns, rows in command.tables_of(result):
            print_table(title, columns, rows)
        for line in command.conclusions(result):
            print_line(line)
    if not result.ok:
        raise AlignctlError(command.failure(result))
    return None
