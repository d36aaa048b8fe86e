"""What each setting of a study counts as, by the marks of its field: science or execution."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from alignctl.config.base import ConfigModel, Execution, Label, Shared
from alignctl.config.validation import models_in

Pair = tuple[Any, Any]
Config = TypeVar("Config", bound=ConfigModel)
Mark = TypeVar("Mark", Execution, Shared, Label)


@dataclass(frozen=True)
class Setting:
    """The value of one field, and what it counts as."""

    value: Any
    """As plain data."""
    science: Any
    """What of the value decides the numbers; None where nothing does."""
    execution: Execution | None
    is_shared: bool
    is_label: bool


def settings(config: ConfigModel) -> dict[str, Setting]:
    """Every setting by its dotted key; a list is one setting."""
    return dict(_settings(config, config.model_dump(mode="json"), "", ()))


def _settings(
    config: ConfigModel, plain: dict[str, Any], prefix: str, inherited: tuple[Any, ...]
) -> Iterator[tuple[str, Setting]]:
    for name, field in type(config).model_fields.items():
        value, key = getattr(config, name), f"{prefix}{name}"
        marks = (*field.metadata, *inherited)
        if isinstance(value, ConfigModel):
            yield from _settings(value, plain[name], f"{key}.", marks)
        else:
            yield key, _setting(value, plain[name], marks)


def _setting(value: Any, plain: Any, marks: tuple[Any, ...]) -> Setting:
    execution = _mark(Execution, marks)
    return Setting(
        value=plain,
        science=_science(value, plain) if execution is None else _presence(plain, execution),
        execution=execution,
        is_shared=_mark(Shared, marks) is not None,
        is_label=_mark(Label, marks) is not None,
    )


def _mark(kind: type[Mark], marks: tuple[Any, ...]) -> Mark | None:
    """The first mark of a kind: a field's own comes before those of its section."""
    return next((mark for mark in marks if isinstance(mark, kind)), None)


def _science(value: Any, plain: Any) -> Any:
    """Plain data without the execution settings of configs in a list."""
    if isinstance(value, ConfigModel):
        return {key: found.science for key, found in settings(value).items()}
    if isinstance(value, tuple):
        return [_science(*pair) for pair in zip(value, plain, strict=True)]
    return plain


def _presence(plain: Any, execution: Execution) -> bool | None:
    return True if execution.unless_left_out and plain is not None else None


def execution_keys(config: ConfigModel) -> tuple[str, ...]:
    """The dotted keys of all execution settings: `dataset.path`, ..."""
    return tuple(key for key, found in settings(config).items() if found.execution is not None)


def science_differences(config: ConfigModel, other: ConfigModel) -> dict[str, Pair]:
    """Both values of every setting whose science differs; None where one config lacks it."""
    ours, theirs = settings(config), settings(other)
    pairs = {key: (ours.get(key), theirs.get(key)) for key in {**ours, **theirs}}
    return {
        key: (mine and mine.value, its and its.value)
        for key, (mine, its) in pairs.items()
        if (mine and mine.science) != (its and its.science)
    }


def needing_proof(config: ConfigModel, other: ConfigModel) -> dict[str, Pair]:
    """Both values of settings that differ and of which only a digest tells if numbers stay."""
    theirs = settings(other)
    return {
        key: (mine.value, theirs[key].value)
        for key, mine in settings(config).items()
        if mine.execution is not None and mine.execution.proof is not None
        and key in theirs and mine.value != theirs[key].value
    }  # fmt: skip


def proofs(root: type[ConfigModel]) -> tuple[str, ...]:
    """The manifest's fields that prove what a study of this class reads from elsewhere."""
    return tuple(dict.fromkeys(_proofs(root)))


def _proofs(root: type[ConfigModel]) -> Iterator[str]:
    for field in root.model_fields.values():
        execution = _mark(Execution, tuple(field.metadata))
        if execution is not None and execution.proof is not None:
            yield execution.proof
        for model in models_in(field.annotation):
            yield from _proofs(model)


def placed_as(config: Config, other: Config) -> Config:
    """The config with all execution settings as another has them, which has the same science."""
    changes = {
        name: _placed(getattr(config, name), getattr(other, name), tuple(field.metadata))
        for name, field in type(config).model_fields.items()
    }
    return config.model_copy(update=changes)


def _placed(value: Any, other: Any, marks: tuple[Any, ...]) -> Any:
    if _mark(Execution, marks) is not None:
        return other
    if isinstance(value, ConfigModel):
        return placed_as(value, other)
    if isinstance(value, tuple) and isinstance(other, tuple):
        return tuple(_placed_item(item, other) for item in value)
    return value


def _placed_item(item: Any, others: tuple[Any, ...]) -> Any:
    """An item of a list, placed as the one of the same class and name in another list."""
    if not isinstance(item, ConfigModel):
        return item
    name = getattr(item, "name", None)
    twins = (it for it in others if type(it) is type(item) and getattr(it, "name", None) == name)
    twin = next(twins, None)
    return item if twin is None else placed_as(item, twin)
