"""Settings: YAML files read into strict, frozen models; the command line may override them for a trial."""

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cxr.errors import UsageError


class StrictModel(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    renamed_keys: ClassVar[dict[str, str]] = {}
    """Keys of earlier versions, which are refused, and their present names."""


KEY_PREFIX = re.compile(r"([\w.]+): ")
LIKE = "like"
"""Key of a settings file that names another file of its folder, from which it takes all settings that it leaves out."""
Config = TypeVar("Config", bound=StrictModel)


def load_settings(path: Path, model: type[Config], **extra: object) -> Config:
    """Read one YAML into `model`; `extra` adds keys that the file does not hold (its own name, say).

    `like: <name>` in the file takes all settings that it leaves out from <name>.yaml in the same folder, which may be
    like a third one. Mappings are merged key by key; lists are replaced.
    Raises UsageError that names the file in which the wrong key stands, the key and, for an unknown key, the nearest
    known one.
    """
    values_by_file = _read_like_chain(path)
    values: dict = {}
    for file_values in reversed(values_by_file.values()):
        values = _merge_values(values, file_values)
    return _validate_values(values | extra, model, lambda keys: _describe_file_of(keys, values_by_file))


def _read_like_chain(path: Path) -> dict[Path, dict]:
    """Values of `path`, of the file that it is like, and so on, each without its key `like`."""
    values_by_file = {path: _read_yaml(path)}
    while LIKE in values_by_file[path]:
        sibling = _find_sibling(path, values_by_file[path].pop(LIKE))
        if sibling in values_by_file:
            circle = " <- ".join(file.stem for file in [*values_by_file, sibling])
            raise UsageError(f"{path}: key '{LIKE}': files are like each other in a circle: {circle}; take one out")
        values_by_file[sibling] = _read_yaml(sibling)
        path = sibling
    return values_by_file


def _find_sibling(path: Path, name: object) -> Path:
    """The file that `path` is like; UsageError where there is none in its folder."""
    names = sorted(p.stem for p in path.parent.glob("*.yaml") if p != path)
    if name not in names and name != path.stem:
        nearest_names = difflib.get_close_matches(str(name), names, n=1) or names
        hint = f"did you mean {', '.join(nearest_names)}?" if names else "there is no other"
        raise UsageError(f"{path}: key '{LIKE}': there is no file '{name}.yaml' in its folder; {hint}")
    return path.with_name(f"{name}.yaml")


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        names = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise UsageError(f"{path} does not exist; there are: {', '.join(names) or 'none'}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected 'key: value' lines")
    return values


def _merge_values(inherited: dict, values: dict) -> dict:
    """`values` over `inherited`; mappings at any depth are merged, all else is replaced."""
    merged = inherited | values
    for key in inherited.keys() & values.keys():
        if isinstance(inherited[key], dict) and isinstance(values[key], dict):
            merged[key] = _merge_values(inherited[key], values[key])
    return merged


def _describe_file_of(keys: list[str], values_by_file: dict[Path, dict]) -> str:
    """The file whose value for a nested key counts; the first file where none has the key."""
    path = next(iter(values_by_file))
    for file, values in values_by_file.items():
        if _has_nested_key(values, keys):
            return str(file) if file == path else f"{file} (which {path.name} is like)"
    return str(path)


def _has_nested_key(values: object, keys: list[str]) -> bool:
    """Whether a value stands at the nested key, or in place of one of its parents."""
    for key in keys:
        if not isinstance(values, dict):
            return True
        values_by_name = {str(name): value for name, value in values.items()}  # YAML's keys may be numbers
        if key not in values_by_name:
            return False
        values = values_by_name[key]
    return True


def validate_settings(values: dict, model: type[Config], source: str) -> Config:
    """Check `values` against `model`; errors name `source` and the key."""
    return _validate_values(values, model, lambda _keys: source)


def _validate_values(values: dict, model: type[Config], find_source: Callable[[list[str]], str]) -> Config:
    """As `validate_settings`; `find_source` gives the name of the file in which a nested key stands."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        errors = _merge_union_errors(error.errors())
        raise UsageError("; ".join(_explain_error(e, model, find_source) for e in errors)) from None


def override_settings(settings: Config, arguments: list[str], prog: str) -> Config:
    """Override single settings of `settings` by --key value (nested: --training.lr 1e-4)."""
    if not arguments:
        return settings
    import tyro  # takes a third of a second: only when something is overridden

    return tyro.cli(type(settings), default=settings, args=arguments, prog=prog)


def _merge_union_errors(errors: list[dict]) -> list[dict]:
    """One error for a value that may be of several types (a list, or 'exact'): of the closest type, else of all.

    pydantic gives an error for each type, with the type's name in brackets among the keys.
    """
    merged: dict[tuple, dict] = {}
    for error in errors:
        keys = tuple(part for part in error["loc"] if "[" not in str(part))
        if any(earlier[: len(keys)] == keys and len(earlier) > len(keys) for earlier in merged):
            continue
        for parent_keys in [k for k in merged if keys[: len(k)] == k and len(keys) > len(k)]:
            del merged[parent_keys]
        earlier_message = f"{merged[keys]['msg']}, or: " if keys in merged else ""
        merged[keys] = error | {"loc": keys, "msg": earlier_message + error["msg"]}
    return list(merged.values())


def _explain_error(error: dict, model: type[BaseModel], find_source: Callable[[list[str]], str]) -> str:
    keys = [str(part) for part in error["loc"]]
    if error["type"] == "value_error":  # of a model as a whole: the message begins with the key at fault
        message = error["msg"].removeprefix("Value error, ")
        if match := KEY_PREFIX.match(message):
            keys, message = [*keys, *match[1].split(".")], message[match.end() :]
        return f"{find_source(keys)}: {'.'.join(keys)}{': ' if keys else ''}{message}"
    if error["type"] == "extra_forbidden":
        return f"{find_source(keys)}: {_explain_unknown_key(keys, model)}"
    return f"{find_source(keys)}: key '{'.'.join(keys)}': {error['msg']}"


def _explain_unknown_key(keys: list[str], model: type[BaseModel]) -> str:
    """What an unknown key is called now, or which known one is nearest."""
    *parents, key = keys
    inner_model = _find_inner_model(model, parents)
    if inner_model and key in getattr(inner_model, "renamed_keys", {}):
        return f"key '{'.'.join(keys)}' is now called '{'.'.join([*parents, inner_model.renamed_keys[key]])}'"
    known_keys = list(inner_model.model_fields) if inner_model else []
    nearest_keys = difflib.get_close_matches(key, known_keys, n=1)
    hint = f"did you mean '{nearest_keys[0]}'?" if nearest_keys else f"known keys: {', '.join(known_keys)}"
    return f"unknown key '{'.'.join(keys)}'; {hint}"


def _find_inner_model(model: type[BaseModel], parents: list[str]) -> type[BaseModel] | None:
    for name in parents:
        field = model.model_fields.get(name)
        annotations = [] if field is None else [field.annotation, *get_args(field.annotation)]  # X, or X | None
        inner_models = [annotation for annotation in annotations if hasattr(annotation, "model_fields")]
        if not inner_models:
            return None
        model = inner_models[0]
    return model
