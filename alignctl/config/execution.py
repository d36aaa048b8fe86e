"""Which keys of a study say where data lie and how fast work goes, not what is computed."""

from typing import Any, TypeVar

from alignctl.config.base import ConfigModel, Execution

Pair = tuple[Any, Any]
Config = TypeVar("Config", bound=ConfigModel)


def execution_keys(config: ConfigModel) -> dict[str, Execution]:
    """The marks of such fields, by dotted key: `dataset.path`, ..."""
    found = _marks_of(config)
    for name, part in _parts_of(config).items():
        found |= {f"{name}.{key}": mark for key, mark in execution_keys(part).items()}
    return found


def placed_as(config: Config, other: Config) -> Config:
    """The config with all such fields as another has them, which differs from it in no others."""
    changes: dict[str, Any] = {name: getattr(other, name) for name in _marks_of(config)}
    for name, part in _parts_of(config).items():
        changes[name] = placed_as(part, getattr(other, name))
    return config.model_copy(update=changes)


def _marks_of(config: ConfigModel) -> dict[str, Execution]:
    fields = type(config).model_fields.items()
    return {
        name: mark for name, field in fields for mark in field.metadata
        if isinstance(mark, Execution)
    }  # fmt: skip


def _parts_of(config: ConfigModel) -> dict[str, ConfigModel]:
    values = {name: getattr(config, name) for name in type(config).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, ConfigModel)}


def science_of(
    differences: dict[str, Pair], config: ConfigModel, other: ConfigModel
) -> dict[str, Pair]:
    """Those differences of two studies that change what is computed."""
    marks = {**execution_keys(config), **execution_keys(other)}
    return {
        key: pair
        for key, pair in differences.items()
        if key not in marks or (marks[key].unless_left_out and None in pair)
    }
