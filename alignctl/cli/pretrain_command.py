"""`alignctl pretrain`: its options, and what it prints."""

from typing import TYPE_CHECKING, Annotated

import typer

from alignctl.cli.options import (
    Config,
    ConfigFile,
    DryRun,
    Json,
    NProc,
    Overrides,
    RunDir,
    Timeout,
    split_words,
)

if TYPE_CHECKING:
    from alignctl.commands.pretrain import PretrainPlan, PretrainResult


def pretrain(
    config: Config = None,
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    run_dir: RunDir = None,
    nproc: NProc = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the last checkpoint; dataset.path=DIR says where its data have moved.",
        ),
    ] = False,
    timeout: Timeout = 1800.0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train all objectives of a study in lock step: same weights, batches and views."""
    from alignctl.cli.terminal import print_notice, print_plan, print_result
    from alignctl.commands import pretrain as command

    config, changes = split_words(config, overrides, config_file)
    plan = command.plan(
        config, changes, run_dir=run_dir, nproc=nproc, resume=resume, notify=print_notice
    )
    if dry_run:
        return print_plan(plan.summary())
    from alignctl.cli.progress_views import TrainingView

    with TrainingView(json_output=as_json) as view:
        result = command.run(plan, listener=view, timeout_s=timeout)
    return print_result(result) if as_json else _print(plan, result)


def _print(plan: "PretrainPlan", result: "PretrainResult") -> None:
    from alignctl.cli.terminal import print_line, print_table

    if plan.finished:
        print_line(f"{result.run}: finished already")
    rows = [(name, loss) for name, loss in result.losses.items()]
    print_table(f"Loss in epoch {result.epochs}", ("objective", "loss"), rows)
    print_line(f"{result.run}: {result.epochs} epochs in {result.training_s:.0f} s of training")
    print_line("next: alignctl eval-alignment, alignctl weight-gap")
