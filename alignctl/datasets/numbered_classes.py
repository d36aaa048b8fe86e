"""Classes whose names are numbers, where a number in the config may mean a name or a position."""

from collections.abc import Sequence

from alignctl.errors import ConfigError


def refuse_ambiguous_numbers(wanted: Sequence[int | str], names: tuple[str, ...]) -> None:
    """ConfigError where a whole number means one class as a name and another as a position.

    Names are in the order of their texts, so that of '1', '2', '10' the second is '10'. Where every
    number means the same class both ways, as with '0' to '9', nothing is ambiguous.
    """
    numbers = {name: int(name) for name in names if name.isdecimal()}
    asked = [item for item in wanted if isinstance(item, int)]
    by_name = {item: [name for name in names if numbers.get(name) == item] for item in asked}
    by_position = {item: list(names[item : item + 1]) if item >= 0 else [] for item in asked}
    apart = [item for item in asked if by_name[item] != by_position[item]]
    if not numbers or not apart:
        return
    first = apart[0]
    readings = [_listed(wanted, found) for found in (by_name, by_position)]
    written = [
        f"dataset.classes={texts} for {kind}"
        for kind, texts in zip(("names", "positions"), readings, strict=True)
        if texts is not None
    ]
    raise ConfigError(
        f"dataset.classes: classes are named by numbers here, and {first} is "
        f"{_quoted(by_name[first]) or 'no class'} as a name and "
        f"{_quoted(by_position[first]) or 'no class'} as a position; write names as texts"
        f"{': ' if written else ''}{', or '.join(written)}"
    )


def _listed(wanted: Sequence[int | str], found: dict[int, list[str]]) -> str | None:
    """The list of texts that means these classes; None where one of them is not exactly one."""
    texts = []
    for item in wanted:
        names = found[item] if isinstance(item, int) else [item]
        if len(names) != 1:
            return None
        texts.append(f"'{names[0]}'")
    return f"[{', '.join(texts)}]"


def _quoted(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
