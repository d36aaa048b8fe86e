"""What the ready-made studies are."""

from alignctl.config.load import find_config, study_names


def descriptions() -> list[str]:
    """`name  first line of its opening comment`, one for each ready-made study."""
    names = study_names()
    width = max(map(len, names), default=0)
    return [f"{name:<{width}}  {_first_comment(name)}".rstrip() for name in names]


def _first_comment(name: str) -> str:
    first = find_config(name).read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""
