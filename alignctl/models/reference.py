"""What one model is called, as text that is printed in tables and read back by commands."""

import re
from dataclasses import dataclass

_OF_SEVERAL = re.compile(r"(?P<source>.+):(?P<name>[^:/\\@]+)@(?P<epoch>\d+)", re.DOTALL)


@dataclass(frozen=True)
class ModelRef:
    """A model: `digits:nscl@25` of a run, `DIR:dcl@200` of a folder, or `FILE`.

    ValueError where its text would be read back as another model.
    """

    source: str
    """A run by name or path, a folder of snapshots, or a file of weights."""
    name: str | None = None
    """The objective; None where the source is one model."""
    epoch: int | None = None
    """None where the source is one model."""

    def __post_init__(self) -> None:
        if _parts(str(self)) != (self.source, self.name, self.epoch):
            raise ValueError(f"{self.source!r}, {self.name!r}, {self.epoch!r}: names no model")

    def __str__(self) -> str:
        if self.name is None and self.epoch is None:
            return self.source
        return f"{self.source}:{self.name}@{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """The model that a text names, whether or not it is there.

        `SOURCE:NAME@EPOCH` is one model of several, anything else a file; ValueError if empty.
        """
        return cls(*_parts(text))


def _parts(text: str) -> tuple[str, str | None, int | None]:
    found = _OF_SEVERAL.fullmatch(text)
    if found is not None:
        return found["source"], found["name"], int(found["epoch"])
    if not text:
        raise ValueError("an empty text names no model")
    return text, None, None
