from dataclasses import dataclass, replace

import pytest

from alignctl.verify.check import Check, some_of
from alignctl.verify.verification import VerificationJob, verify


@dataclass(frozen=True)
class Known:
    """A run whose checks are known."""

    results: tuple[str, ...]

    @property
    def num_checks(self):
        return len(self.results)

    def checks(self, device):
        for number, result in enumerate(self.results):
            yield Check(f"{number} on {device}", result, "")


def test_every_run_has_its_checks_in_order(one_process, tmp_path):
    context = replace(one_process, events_file=tmp_path / "events.jsonl")
    found = verify(context, VerificationJob((Known(("ok", "differs")), Known(("damaged",)))))
    assert [[check.result for check in checks] for checks in found] == [
        ["ok", "differs"], ["damaged"],
    ]  # fmt: skip
    assert found[0][0].name == f"0 on {context.device}"


@pytest.mark.parametrize(("number", "text"), [(1, "a"), (3, "a; b; c"), (5, "a; b; c; 2 more")])
def test_of_many_faults_some_are_named(number, text):
    assert some_of(list("abcde")[:number]) == text
