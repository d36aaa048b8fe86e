"""What an adopted run's checkpoints lack, and where they changed: lines to warn with."""

from collections.abc import Iterable, Sequence

from alignctl.commands.adoption import Subject
from alignctl.runs.evaluated import changed

_NAMED_AT_MOST = 5


def absences(
    subject: Subject,
    names: Iterable[str],
    *,
    missing: Sequence[str],
    reference: str | None,
    epochs: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """A line for objectives that an adopted run lacks, and one for epochs that some of them lack.

    names: those that are compared. reference: the one that all others are compared with, if there
    is one. epochs: those that are asked for, None for all.
    """
    if subject.original is None:
        return ()
    folder, lines = subject.original.folder, []
    if missing:
        lines.append(f"{folder}: no snapshots of {', '.join(missing)}, whose cells stay empty")
    saved = {name: set(subject.saved(name)) for name in dict.fromkeys(names)}
    wanted = set().union(*saved.values()) if epochs is None else set(epochs)
    left_out = wanted - saved.pop(reference) if reference in saved else set()
    if left_out:
        listed = f"{reference} {_in_words(sorted(left_out))}"
        lines.append(f"{folder}: epochs without the reference are left out ({listed})")
    wanted -= left_out
    gaps = {name: sorted(wanted - found) for name, found in saved.items() if wanted - found}
    if gaps:
        listed = "; ".join(f"{name} {_in_words(numbers)}" for name, numbers in gaps.items())
        lines.append(f"{folder}: no snapshots at some epochs, whose cells stay empty ({listed})")
    return tuple(lines)


def changes(subject: Subject) -> tuple[str, ...]:
    """A line for snapshots of an adopted run that are not those that were evaluated."""
    found = changed(subject.run, subject.original) if subject.original else {}
    if not found:
        return ()
    listed = "; ".join(f"{name} {_in_words(epochs)}" for name, epochs in found.items())
    return (
        f"{subject.where}: in size or date not the snapshots that were evaluated, "
        f"whose rows are dropped and, where asked for, made anew ({listed})",
    )


def _in_words(epochs: Sequence[int]) -> str:
    listed = ", ".join(map(str, epochs[:_NAMED_AT_MOST]))
    more = len(epochs) - _NAMED_AT_MOST
    return f"{listed} and {more} more" if more > 0 else listed
