"""The worker function that verifies runs, whoever trained them."""

from dataclasses import dataclass

from alignctl.engine.context import WorkerContext
from alignctl.verify.check import Check, Verification


@dataclass(frozen=True)
class VerificationJob:
    """What is to be checked, run by run."""

    runs: tuple[Verification, ...]


def verify(context: WorkerContext, job: VerificationJob) -> list[tuple[Check, ...]]:
    """The checks of every run, in the order of the job; reads the runs and writes nothing."""
    verdicts, done, total = [], 0, sum(run.num_checks for run in job.runs)
    for run in job.runs:
        checks = []
        context.report("check", done=done, total=total)
        for check in run.checks(context.device):
            checks.append(check)
            done += 1
            context.report("check", done=done, total=total)
        verdicts.append(tuple(checks))
    return verdicts
