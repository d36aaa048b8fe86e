"""`alignctl eval-alignment`: its options, and what it prints, by alignment_tables.py."""

from typing import TYPE_CHECKING, Annotated

import typer

from alignctl.cli.options import (
    Checkpoints,
    Compare,
    Confidence,
    Device,
    DryRun,
    Json,
    Metrics,
    NProc,
    Output,
    Permutations,
    Reference,
    RunOrOverrides,
    StudyFile,
)

if TYPE_CHECKING:
    from alignctl.commands.eval_alignment import EvalPlan, EvalResult

AllPairs = Annotated[
    bool, typer.Option("--all-pairs", help="Compare all objectives with each other.")
]
Splits = Annotated[
    list[str] | None,
    typer.Option(help="train or test; may be repeated.", show_default="those there are"),
]
Representation = Annotated[
    list[str] | None,
    typer.Option(
        metavar="h|g|LAYER",
        help="The encoder's output, the projector's, a layer's, such as layer3, or those of all "
        "layers that fit a pattern, such as 'blocks.*.attn.qkv'; may be repeated.",
        show_default="h",
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


def eval_alignment(
    words: RunOrOverrides = None,
    config: StudyFile = None,
    checkpoints: Checkpoints = None,
    output: Output = None,
    reference: Reference = "cl",
    compare: Compare = None,
    all_pairs: AllPairs = False,
    split: Splits = None,
    representation: Representation = None,
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
) -> None:
    """CKA, RSA and other similarities of a run's models, at every saved epoch, on all images."""
    from alignctl.cli.terminal import print_notice
    from alignctl.commands import eval_alignment as command
    from alignctl.commands.subject import subject_of

    options = command.EvalOptions(
        reference=reference, compare=tuple(compare or ()), all_pairs=all_pairs,
        splits=tuple(split or ()), representations=tuple(representation or ("h",)),
        metrics=tuple(metric or ()),
        debiased=debiased, confidence=confidence, interval=interval, permutations=permutations,
        epochs=epochs, every=every, keep_features=keep_features, nproc=nproc, device=device,
    )  # fmt: skip
    subject = subject_of(
        words or (),
        config=config,
        checkpoints=checkpoints,
        output=output,
        needs_config=True,
        notify=print_notice,
    )
    _carry_out(command.plan(subject, options), dry_run=dry_run, as_json=as_json)


def _carry_out(plan: "EvalPlan", *, dry_run: bool, as_json: bool) -> None:
    from alignctl.cli.terminal import print_plan, print_result, print_warnings
    from alignctl.commands import eval_alignment as command

    print_warnings(plan.warnings)
    if dry_run:
        return print_plan(plan.summary())
    from alignctl.cli.progress_views import CountView

    with CountView(json_output=as_json) as view:
        result = command.run(plan, listener=view)
    return print_result(result) if as_json else _print(plan, result)


def _print(plan: "EvalPlan", result: "EvalResult") -> None:
    from alignctl.cli.alignment_tables import interval_lines, last_table, notes_of, tables_of
    from alignctl.cli.terminal import print_line, print_table

    for title, columns, rows in tables_of(result, plan):
        print_table(title, columns, rows)
    print_table(*last_table(result, plan))
    for line in (*interval_lines(result), *notes_of(result, plan)):
        print_line(line)
    print_line(f"{plan.run.alignment}: {result.evaluated} new evaluations")
