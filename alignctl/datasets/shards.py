"""Whether the files of a split, NAME-00000-of-00003.parquet and so on, are all there."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from alignctl.errors import ConfigError

# the hub once put a hash behind the total: train-00000-of-00001-a09b74b3ef9c3b56.parquet
_NUMBERED = re.compile(
    r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(-[0-9a-f]+)?(?P<suffix>\.\w+)"
)
_NUM_NAMED = 3  # of several missing files, so many are named


def numbered_sets(files: Iterable[Path]) -> list[list[Path]]:
    """Those files whose names say which of how many they are, by folder and what is in front."""
    sets: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        if match := _NUMBERED.fullmatch(file.name):
            sets.setdefault((file.parent, match["stem"]), []).append(file)
    return list(sets.values())


def refuse_gaps(files: Sequence[Path]) -> None:
    """ConfigError unless files of one folder are the whole of one set, or have no such numbers.

    files: of one split. Numbers may begin at 0 or at 1.
    """
    matches = [_NUMBERED.fullmatch(file.name) for file in files]
    parts = [match for match in matches if match is not None]
    if not parts:
        return
    folder, first = files[0].parent, parts[0]
    others = [file.name for file, match in zip(files, matches, strict=True) if match is None]
    others += [part[0] for part in parts if int(part["total"]) != int(first["total"])]
    numbers = [int(part["number"]) for part in parts]
    twice = [part[0] for part in parts if numbers.count(int(part["number"])) > 1]
    if others or twice:
        mixed = [first[0], others[0]] if others else twice[:2]
        raise ConfigError(
            f"dataset.path: '{folder}' holds files of more than one set ({' and '.join(mixed)}); "
            "leave those of one"
        )
    total = int(first["total"])
    start = 1 if 0 not in numbers and total in numbers else 0
    missing = [number for number in range(start, start + total) if number not in numbers]
    if missing:
        names = [_name(first, number) for number in missing[:_NUM_NAMED]]
        more = f" and {len(missing) - _NUM_NAMED} more" if len(missing) > _NUM_NAMED else ""
        raise ConfigError(
            f"dataset.path: '{folder}' lacks {', '.join(names)}{more}: "
            f"{total - len(missing)} of {total} files are there; fetch what is missing"
        )


def _name(like: re.Match[str], number: int) -> str:
    digits = f"{number:0{len(like['number'])}d}"
    return f"{like['stem']}-{digits}-of-{like['total']}{like['suffix']}"
