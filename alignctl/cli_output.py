"""What every subcommand prints at its end, and how its words are read."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from alignctl.config.base import expanded
from alignctl.errors import ConfigError


def split_words(
    config: str | None, overrides: Sequence[str] | None, config_file: str | None = None
) -> tuple[str | None, list[str]]:
    """The study and its overrides: the first word is one too where it has a `=` and is no file.

    config_file: what --config says; then all words are overrides.
    """
    changes = list(overrides or ())
    if config is None or ("=" in config and not _is_file(config)):
        return config_file, [*([] if config is None else [config]), *changes]
    if config_file is not None:
        raise ConfigError(
            f"--config: '{config}' names a study already; give one of the two "
            "(changes are written key=value)"
        )
    return config, changes


def _is_file(word: str) -> bool:
    with suppress(OSError):  # a list of objectives may be too long for a name
        return expanded(word).is_file()
    return False


def print_plan(summary: dict[str, Any]) -> None:
    """The plan of --dry-run, as YAML."""
    import yaml

    from alignctl.console import print_text

    print_text(yaml.safe_dump(summary, sort_keys=False, width=100, allow_unicode=True))


def print_warnings(lines: Sequence[str]) -> None:
    """A line each, on standard error."""
    from alignctl.console import print_warning

    for line in lines:
        print_warning(line)


def print_result(result: Any) -> None:
    """A result dataclass, as the one JSON document of --json."""
    from alignctl.console import print_json

    print_json(asdict(result))
