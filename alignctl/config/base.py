"""The base of every config model: frozen, closed to unknown keys, and strict about numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator


def expanded(path: Path | str) -> Path:
    """The path with `~` or `~user` at its start replaced; unchanged where no such home is known.

    A shell leaves `~` alone in `--output=~/x` and in `dataset.path=~/x`.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def absolute(path: Path) -> Path:
    """The path from the root, `~` included: a run's config works from any folder."""
    if "\0" in str(path):
        raise ValueError("holds a null character, which no path may")
    return expanded(path).absolute()


DataPath = Annotated[Path, AfterValidator(absolute)]


@dataclass(frozen=True)
class Execution:
    """Marks a field that says where something lies or how fast it goes, not what is computed.

    All other fields are science. A marked one may change from start to start of one run. On a
    field that holds a section, the mark is of all fields of that section.
    """

    proof: str | None = None
    """The manifest's field whose digest proves that what lies elsewhere is the same; None where
    no number depends on the marked field."""
    unless_left_out: bool = False
    """Whether leaving it out is science, as with a file of weights to begin from."""


@dataclass(frozen=True)
class Shared:
    """Marks science that models must share to be comparable: it decides weights, batches, views.

    Science without this mark may differ between compared runs. On a field that holds a section,
    the mark is of all fields of that section.
    """


@dataclass(frozen=True)
class Label:
    """Marks science that only names a study: runs under different names can be compared."""


class ConfigModel(BaseModel):
    """A frozen pydantic model that refuses unknown keys, infinities, and booleans as numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_as_number(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            key: value
            if key in fields and _takes_booleans(fields[key].annotation)
            else _without_booleans(value)
            for key, value in values.items()
        }


class _Boolean:
    """Stands for YAML's true or false where none belongs: pydantic would read them as 1 and 0."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "true" if self._value else "false"


def _takes_booleans(annotation: Any) -> bool:
    return bool in (annotation, *get_args(annotation))


def _without_booleans(value: Any) -> Any:
    """The value, or a list's items, with each boolean replaced by what no type accepts."""
    if isinstance(value, list | tuple):
        return [_without_booleans(item) for item in value]
    return _Boolean(value) if isinstance(value, bool) else value
