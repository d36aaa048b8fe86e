"""From a YAML file or a ready-made study's name, with key=value overrides, to a StudyConfig."""

import re
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alignctl.config.base import expanded
from alignctl.config.dialects import dialect_of
from alignctl.config.execution import execution_keys, science_differences
from alignctl.config.study import StudyConfig
from alignctl.config.validation import (
    config_error,
    fields_at,
    holds_text,
    may_be_none,
    models_at,
    names_of,
    nearest,
)
from alignctl.errors import ConfigError

DEFAULT_STUDY = "digits"


class _Loader(yaml.SafeLoader):
    """YAML with 1e-3 as a number, and an error where a key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key_node in keys:  # super() refuses keys that are no scalars
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key_node.value}' stands twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 010 as 8 and 1:30 as 90; classes may have such names.
_INT = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _INT]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _INT,
    re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
# YAML 1.1 reads 1e-3 as a string; people mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text; ConfigError with the line where it cannot be read."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-01
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{source}: not valid YAML: {reason}") from error


def config_folder() -> Path:
    """Where the ready-made studies lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"


def study_names() -> list[str]:
    """The names of the ready-made studies, sorted."""
    return sorted(path.stem for path in config_folder().glob("*.yaml"))


def find_config(source: str) -> Path:
    """The YAML file of a path or of a ready-made study's name."""
    path = expanded(source)
    if path.is_file():
        return path
    shipped = config_folder() / f"{source}.yaml"
    if "/" not in source and shipped.is_file():
        return shipped
    _refuse_what_is_no_file(path, source)
    if path.suffix in (".yaml", ".yml") or "/" in source:
        raise ConfigError(f"{source}: no such file")
    names = study_names()
    hint = nearest(source, names) or ";"
    raise ConfigError(f"{source}: neither a file nor a ready-made study{hint} ({', '.join(names)})")


def _refuse_what_is_no_file(path: Path, source: str) -> None:
    """ConfigError for a folder, a pipe or a device; OSError where the path cannot be looked up."""
    with suppress(FileNotFoundError, NotADirectoryError):
        kind = "a folder" if stat.S_ISDIR(path.stat().st_mode) else "a pipe or a device"
        raise ConfigError(f"{source}: is {kind}; want a YAML file")


def read_values(path: Path) -> dict[str, Any]:
    """The keys of a YAML file, not validated; ConfigError where it cannot be read as keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a study is a mapping of keys, not {type(values).__name__}")
    return values


def load_study(
    source: str | None = None,
    overrides: Sequence[str] = (),
    *,
    notify: Callable[[str], None] | None = None,
) -> StudyConfig:
    """The validated study of a YAML file or ready-made name, with `key=value` overrides applied.

    Another program's config is translated first, and `notify` told once what became of it.
    Raises ConfigError that names the key, what is allowed and the nearest match.
    """
    path = find_config(source or DEFAULT_STUDY)
    values = read_values(path)
    dialect = dialect_of(values)
    if dialect is None:
        return validate_study(apply_overrides(values, overrides), path.name)
    translation = dialect.translate(values, path.name)
    dialect.refuse_its_keys(overrides, path.name)
    study = validate_study(apply_overrides(translation.values, overrides), path.name)
    if notify is not None:
        notify(translation.notice)
    return study


def validate_study(values: dict[str, Any], source: str) -> StudyConfig:
    """The StudyConfig of plain values; ConfigError names `source` and every wrong key."""
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        raise config_error(error, StudyConfig, source) from error


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The values with `key=value` texts applied, split at the first `=`.

    A value is text as it stands where the key holds text, and YAML everywhere else. Choosing
    another `name`, as in `training.optimizer.name=adamw`, drops the keys of the file that the new
    choice does not have.
    """
    pairs = [(_keys_in(text), text) for text in overrides]
    pairs.sort(key=lambda pair: pair[0][-1] != "name")  # names first: they decide which keys remain
    result: dict[str, Any] = values
    for keys, text in pairs:
        result = _with_override(result, keys, text, done=())
    return result


def _keys_in(override: str) -> list[str]:
    key, separator, _ = override.partition("=")
    keys = key.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(
            f"'{override}' is not an override: write key=value, as in training.epochs=5"
        )
    return keys


def _value_in(override: str, path: tuple[str, ...], siblings: dict[str, Any]) -> Any:
    """The value of an override of the key at `path`, beside which these values stand."""
    value = override.partition("=")[2]
    text = value.lstrip()
    fields = fields_at(StudyConfig, path, siblings.get("name"))
    if not text or not fields or not all(map(holds_text, fields)):
        return parse_yaml(value, f"override '{override}'")
    if text == "null" and any(map(may_be_none, fields)):
        return None
    return _without_quotes(text)


def _without_quotes(text: str) -> str:
    """What a YAML string in quotes holds, where the whole text is one; else the text."""
    if text[0] not in "'\"" or text[-1] != text[0]:
        return text
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return text
    if isinstance(node, yaml.ScalarNode) and node.end_mark.index == len(text):
        return str(node.value)
    return text


def _with_override(
    values: dict[str, Any], keys: list[str], override: str, done: tuple[str, ...]
) -> dict[str, Any]:
    key, rest = keys[0], keys[1:]
    if rest:
        child = values.get(key)
        if child is None:
            child = {}
        if not isinstance(child, dict):
            path = ".".join((*done, key))
            raise ConfigError(
                f"{path}.{'.'.join(rest)}: {path} is not a mapping; set it as a whole"
            )
        return {**values, key: _with_override(child, rest, override, (*done, key))}
    value = _value_in(override, (*done, key), values)
    if key == "name" and value != values.get("name"):
        values = _keys_of(value, values, done)
    return {**values, key: value}


def _keys_of(name: Any, values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The values that the union's member of this name has as well."""
    members = [model for model in models_at(StudyConfig, path) if name in names_of(model)]
    if not members:
        return values
    return {key: value for key, value in values.items() if key in members[0].model_fields}


def to_yaml(config: StudyConfig) -> str:
    """The whole study as YAML, every default written out: enough to run it again."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)


def first_difference(config: StudyConfig, other: StudyConfig) -> str | None:
    """`training.epochs is 30 here and 20 there` for the first key that differs, or None.

    Settings of execution are left out: see `Execution`.
    """
    for key, (ours, theirs) in science_differences(config, other).items():
        return f"{key} is {ours} here and {theirs} there"
    return None


def moved(study: StudyConfig, overrides: Sequence[str], run: str) -> StudyConfig:
    """A run's study with `key=value` overrides of its execution: see `Execution`.

    ConfigError for one that would change what is computed.
    """
    changed = validate_study(apply_overrides(study.model_dump(mode="json"), overrides), run)
    difference = first_difference(changed, study)
    if difference is not None:
        allowed = ", ".join(execution_keys(study))
        raise ConfigError(
            f"{difference} ({run}): it decides what is computed, so a run keeps it; only where "
            f"data lie and how they are read may change ({allowed})"
        )
    return changed
