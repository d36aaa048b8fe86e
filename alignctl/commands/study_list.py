"""What the ready-made studies are, and what configs of the original code are as studies."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from alignctl.config import StudyConfig
from alignctl.config.base import expanded
from alignctl.config.dialects import dialect_of
from alignctl.config.load import find_config, load_study, read_values, study_names, to_yaml
from alignctl.errors import ConfigError, DataError, MissingSplitError
from alignctl.runs.atomic import write_text
from alignctl.runs.directory import obstacle


def descriptions() -> dict[str, str]:
    """The first line of the opening comment of each ready-made study, by its name."""
    return {name: _first_comment(name) for name in study_names()}


def _first_comment(name: str) -> str:
    first = find_config(name).read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def readable_images(study: StudyConfig) -> int:
    """How many images both splits have; DataError lists all that cannot be read, of both."""
    from alignctl.datasets import read_all_images

    total, unreadable = 0, []
    for split in ("train", "test"):
        try:
            total += read_all_images(study.dataset, split)
        except MissingSplitError:
            continue
        except DataError as error:
            unreadable.append(str(error))
    if unreadable:
        raise DataError("\n".join(unreadable))
    return total


def convert(
    source: str,
    overrides: Sequence[str],
    *,
    output: Path | None,
    notify: Callable[[str], None] | None = None,
) -> str:
    """The text of a study for a config of the original code; written to `output` where given.

    notify: told what became of its keys.
    Raises ConfigError for a study that is ours already, and where `output` exists.
    """
    path, output = find_config(source), output and expanded(output)
    if dialect_of(read_values(path)) is None:
        raise ConfigError(f"{source}: is no config of the original code; nothing to convert")
    if output is not None and os.path.lexists(output):
        raise ConfigError(f"--output: {output} exists already; choose another name")
    if output is not None and (blocked := obstacle(output.parent)):
        raise ConfigError(f"--output: {blocked.path} is {blocked.kind}")
    study = load_study(source, overrides, notify=notify)
    changes = f", with {' '.join(overrides)}" if overrides else ""
    opening = f"Made from {path.name}, a config of understanding-ssl-v2{changes}"
    opening = f"# {opening}; run it by: alignctl pretrain {output or 'FILE'}"
    # a name may hold a line break, which would end the comment
    text = " ".join(opening.split()) + "\n" + to_yaml(study)
    if output is not None:
        write_text(output, text)
    return text
