"""Config files of other programs: how they are recognised and translated."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, cast

# Modules that are dialects, by name: they import this package, so it cannot import them.
DIALECTS = ("alignctl.original.translation",)


class Translated(Protocol):
    """A study made from another program's config."""

    @property
    def values(self) -> dict[str, Any]:
        """The study as plain values, not validated."""

    @property
    def notice(self) -> str:
        """A few lines for whoever gave the file: what became of its keys."""


class Dialect(Protocol):
    """The config files of one other program."""

    def recognises(self, values: Any) -> bool:
        """Whether these values of a YAML file are such a config."""

    def translate(self, values: dict[str, Any], source: str) -> Translated:
        """The study that it describes; ConfigError names `source` and the keys of the file."""

    def refuse_its_keys(self, overrides: Sequence[str], source: str) -> None:
        """ConfigError where a `key=value` override uses a key of the file and not one of ours."""


def dialect_of(values: dict[str, Any]) -> Dialect | None:
    """The dialect that the values of a YAML file are written in; None where they are ours."""
    known = (cast(Dialect, import_module(name)) for name in DIALECTS)
    return next((dialect for dialect in known if dialect.recognises(values)), None)
