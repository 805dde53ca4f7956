"""Settings: YAML files read into strict, frozen models; the command line may override them for a trial."""

import difflib
import re
from pathlib import Path
from typing import ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cxr.errors import UsageError


class StrictModel(BaseModel):
    """Base of every config: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    renamed_keys: ClassVar[dict[str, str]] = {}
    """Keys of earlier versions, which are refused, and what they are called now."""


KEY_PREFIX = r"[\w.]+: "
Config = TypeVar("Config", bound=StrictModel)


def load_settings(path: Path, model: type[Config], **extra: object) -> Config:
    """Read one YAML into `model`; `extra` adds keys that the file does not hold (its own name, say).

    Raises UsageError that names the file, the key and, for an unknown key, the nearest known one.
    """
    if not path.is_file():
        names = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise UsageError(f"{path} does not exist; there are: {', '.join(names) or 'none'}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected 'key: value' lines")
    return validate_settings(values | extra, model, source=str(path))


def validate_settings(values: dict, model: type[Config], source: str) -> Config:
    """Check `values` against `model`; errors name `source` and the key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(
            "; ".join(_explain_error(e, model, source) for e in _merge_union_errors(error.errors()))
        ) from None


def override_settings(settings: Config, arguments: list[str], prog: str) -> Config:
    """Override single settings of `settings` by --key value (nested: --training.lr 1e-4)."""
    if not arguments:
        return settings
    import tyro  # takes a third of a second: only when something is overridden

    return tyro.cli(type(settings), default=settings, args=arguments, prog=prog)


def _merge_union_errors(errors: list[dict]) -> list[dict]:
    """One error for a value of several kinds (a list, or 'exact'): of the kind that it came nearest to, else of all.

    pydantic has one for each kind, with the kind's own name, in brackets, among the keys.
    """
    merged: dict[tuple, dict] = {}
    for error in errors:
        keys = tuple(part for part in error["loc"] if "[" not in str(part))
        if any(earlier[: len(keys)] == keys and len(earlier) > len(keys) for earlier in merged):
            continue
        for parent_keys in [
            earlier for earlier in merged if keys[: len(earlier)] == earlier and len(keys) > len(earlier)
        ]:
            del merged[parent_keys]
        earlier_message = f"{merged[keys]['msg']}, or: " if keys in merged else ""
        merged[keys] = error | {"loc": keys, "msg": earlier_message + error["msg"]}
    return list(merged.values())


def _explain_error(error: dict, model: type[BaseModel], source: str) -> str:
    *parents, key = [str(part) for part in error["loc"]] or [""]
    dotted_key = ".".join([*parents, key])
    if error["type"] == "value_error":  # of a model as a whole: the message begins with the key at fault
        message = error["msg"].removeprefix("Value error, ")
        return (
            f"{source}: {dotted_key}{('.' if re.match(KEY_PREFIX, message) else ': ') if dotted_key else ''}{message}"
        )
    if error["type"] != "extra_forbidden":
        return f"{source}: key '{dotted_key}': {error['msg']}"
    inner_model = _find_inner_model(model, parents)
    if inner_model and key in getattr(inner_model, "renamed_keys", {}):
        return f"{source}: key '{dotted_key}' is now called '{'.'.join([*parents, inner_model.renamed_keys[key]])}'"
    known_keys = list(inner_model.model_fields) if inner_model else []
    nearest_keys = difflib.get_close_matches(key, known_keys, n=1)
    hint = f"did you mean '{nearest_keys[0]}'?" if nearest_keys else f"known keys: {', '.join(known_keys)}"
    return f"{source}: unknown key '{dotted_key}'; {hint}"


def _find_inner_model(model: type[BaseModel], parents: list[str]) -> type[BaseModel] | None:
    for name in parents:
        field = model.model_fields.get(name)
        annotations = [] if field is None else [field.annotation, *get_args(field.annotation)]  # X, or X | None
        inner_models = [annotation for annotation in annotations if hasattr(annotation, "model_fields")]
        if not inner_models:
            return None
        model = inner_models[0]
    return model
