"""Turns pydantic's complaints into one line each: the key's path, what is allowed, what is near."""

import difflib
import re
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from alignctl.config.base import ConfigModel
from alignctl.errors import ConfigError

_A_MAPPING = "must be a mapping with the key 'name'"
_PLAIN = {
    "model_type": "must be a mapping of keys",
    "model_attributes_type": _A_MAPPING,
    "union_tag_not_found": _A_MAPPING,
    "tuple_type": "must be a list",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
}


def models_in(annotation: Any) -> list[type[ConfigModel]]:
    """All config models that a value of this type may be: through unions, tuples and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if issubclass(annotation, ConfigModel) else []
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple):
        return [model for arg in get_args(annotation) for model in models_in(arg)]
    return []


def names_of(model: type[ConfigModel]) -> tuple[str, ...]:
    """The values of `name` that choose this member of a union; empty where it has none."""
    field = model.model_fields.get("name")
    if field is None or get_origin(field.annotation) is not Literal:
        return ()
    return get_args(field.annotation)


def models_at(root: type[ConfigModel], keys: Sequence[str]) -> list[type[ConfigModel]]:
    """The models that may stand under a dotted path of keys, such as `training.optimizer`."""
    found = [root]
    for key in keys:
        fields = [model.model_fields[key] for model in found if key in model.model_fields]
        found = [model for field in fields for model in models_in(field.annotation)]
    return found


def fields_at(root: type[ConfigModel], keys: Sequence[str], name: Any = None) -> list[FieldInfo]:
    """The fields that a dotted path of keys may mean.

    name: of the union's member that is chosen beside the last key, where it is known.
    """
    *parents, key = keys
    found = [model for model in models_at(root, parents) if key in model.model_fields]
    chosen = [model for model in found if name in names_of(model)]
    return [model.model_fields[key] for model in chosen or found]


def holds_text(field: FieldInfo) -> bool:
    """Whether every value of the field is text, a path or one of some words, or None."""
    arms = [arm for arm in _arms(field.annotation) if arm is not NoneType]
    return all(
        arm in (str, Path)
        or (get_origin(arm) is Literal and all(isinstance(word, str) for word in get_args(arm)))
        for arm in arms
    )


def may_be_none(field: FieldInfo) -> bool:
    """Whether None is a value of the field."""
    return NoneType in _arms(field.annotation)


def _arms(annotation: Any) -> list[Any]:
    """The types that a union joins, without what annotates them."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _arms(args[0])
    if origin in (Union, types.UnionType):
        return [arm for arg in args for arm in _arms(arg)]
    return [annotation]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for a close match among what is allowed, or nothing."""
    match = difflib.get_close_matches(word, list(allowed), n=1)
    return f"; did you mean '{match[0]}'?" if match else ""


def unknown(kind: str, word: str, allowed: Iterable[str]) -> str:
    """`'nsc' is not an objective; did you mean 'nscl'? (ce, cl, ...)`."""
    options = sorted(allowed)
    return f"'{word}' is not {kind}{nearest(word, options)} ({', '.join(options)})"


def config_error(error: ValidationError, root: type[ConfigModel], source: str) -> ConfigError:
    """One line per wrong key, in a ConfigError that names the source."""
    by_key: dict[str, list[str]] = {}
    for detail in error.errors():
        key, models = _locate(root, detail["loc"])
        message = _message(dict(detail), models)
        if message not in by_key.setdefault(key, []):
            by_key[key].append(message)
    # where an item of a list is wrong, nothing more is said about the list
    told = [key for key in by_key if not any(other.startswith(f"{key}[") for other in by_key)]
    lines = [f"{key}: {' or '.join(by_key[key])}" if key else by_key[key][0] for key in told]
    return ConfigError(f"{source}: " + "\n".join(lines))


def _locate(
    root: type[ConfigModel], loc: tuple[int | str, ...]
) -> tuple[str, list[type[ConfigModel]]]:
    """The key as the user writes it, and the models that its parent may be."""
    path: list[str] = []
    parents: list[type[ConfigModel]] = []
    found = [root]
    for part in loc:
        if isinstance(part, int):
            if path:
                path[-1] += f"[{part}]"
            continue
        tagged = [model for model in found if part in names_of(model)]
        if tagged and len(found) > 1:
            found = tagged
            continue
        fields = [model.model_fields[part] for model in found if part in model.model_fields]
        if not fields and not found:
            continue  # pydantic's name for one branch of a union of plain types
        parents = found
        path.append(part)
        found = [model for field in fields for model in models_in(field.annotation)]
    return ".".join(path), parents


def _message(detail: dict[str, Any], parents: list[type[ConfigModel]]) -> str:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        allowed = sorted({key for model in parents for key in model.model_fields})
        hint = nearest(str(detail["loc"][-1]), allowed)
        message = f"unknown key{hint} (allowed: {', '.join(allowed)})"
    elif kind in ("union_tag_invalid", "literal_error"):
        expected = context.get("expected_tags") or context["expected"]
        message = unknown(
            "allowed", str(context.get("tag", given)), re.findall("'(.*?)'", expected)
        )
    elif kind == "missing":
        message = "is missing"
    elif kind == "value_error":
        message = str(context["error"])
    elif kind in _PLAIN:
        message = f"{_PLAIN[kind]}, got {given!r}"
    else:
        words = str(detail["msg"])
        message = f"{words[0].lower()}{words[1:]}, got {given!r}"
    return message
