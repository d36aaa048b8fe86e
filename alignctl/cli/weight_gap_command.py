"""`alignctl weight-gap`: what it prints."""

from typing import TYPE_CHECKING

from alignctl.cli.options import (
    Checkpoints,
    Compare,
    DryRun,
    Json,
    Output,
    Reference,
    RunOnly,
    StudyFile,
)

if TYPE_CHECKING:
    from alignctl.commands.weight_gap import WeightGapPlan, WeightGapResult


def weight_gap(
    words: RunOnly = None,
    config: StudyFile = None,
    checkpoints: Checkpoints = None,
    output: Output = None,
    reference: Reference = "cl",
    compare: Compare = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """The relative distance and the angle between encoder weights, at every saved epoch."""
    from alignctl.cli.terminal import print_notice, print_plan, print_result, print_warnings
    from alignctl.commands import weight_gap as command
    from alignctl.commands.subject import subject_of

    subject = subject_of(
        words or (),
        config=config,
        checkpoints=checkpoints,
        output=output,
        needs_config=False,
        notify=print_notice,
    )
    plan = command.plan(subject, reference=reference, compare=compare or ())
    print_warnings(plan.warnings)
    if dry_run:
        return print_plan(plan.summary())
    from alignctl.cli.progress_views import CountView

    with CountView(json_output=as_json) as view:
        result = command.run(plan, listener=view)
    return print_result(result) if as_json else _print(plan, result)


def _print(plan: "WeightGapPlan", result: "WeightGapResult") -> None:
    from alignctl.cli.terminal import print_line, print_table

    columns = ("epoch", "objective", "mean", "total", "angle_degrees")
    rows = [[row[column] for column in columns] for row in result.rows]
    print_table(f"Weight gap to {plan.reference}", (*columns[:-1], "degrees"), rows)
    print_line(f"{plan.run.weight_gap}: tables written")
