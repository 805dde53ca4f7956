"""Settings: YAML files read into strict, frozen models; the command line may override them for a trial."""

import difflib
import re
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cxr.errors import UsageError


class Strict(BaseModel):
    """Base of every config: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


KEY = r"[\w.]+: "
Config = TypeVar("Config", bound=Strict)


def load(path: Path, model: type[Config], **extra: object) -> Config:
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
    return validate(values | extra, model, source=str(path))


def validate(values: dict, model: type[Config], source: str) -> Config:
    """Check `values` against `model`; errors name `source` and the key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError("; ".join(_explain(e, model, source) for e in _merged(error.errors()))) from None


def from_command_line(config: Config, arguments: list[str], prog: str) -> Config:
    """Override single settings of `config` by --key value (nested: --training.lr 1e-4)."""
    if not arguments:
        return config
    import tyro  # takes a third of a second: only when something is overridden

    return tyro.cli(type(config), default=config, args=arguments, prog=prog)


def _merged(errors: list[dict]) -> list[dict]:
    """One error for a value of several kinds (a list, or 'exact'): of the kind that it came nearest to, else of all.

    pydantic has one for each kind, with the kind's own name, in brackets, among the keys.
    """
    found: dict[tuple, dict] = {}
    for error in errors:
        place = tuple(part for part in error["loc"] if "[" not in str(part))
        if any(other[: len(place)] == place and len(other) > len(place) for other in found):
            continue
        for outer in [other for other in found if place[: len(other)] == other and len(place) > len(other)]:
            del found[outer]
        before = f"{found[place]['msg']}, or: " if place in found else ""
        found[place] = error | {"loc": place, "msg": before + error["msg"]}
    return list(found.values())


def _explain(error: dict, model: type[BaseModel], source: str) -> str:
    *parents, key = [str(part) for part in error["loc"]] or [""]
    where = ".".join([*parents, key])
    if error["type"] == "value_error":  # of a model as a whole: the message begins with the key at fault
        message = error["msg"].removeprefix("Value error, ")
        return f"{source}: {where}{('.' if re.match(KEY, message) else ': ') if where else ''}{message}"
    if error["type"] != "extra_forbidden":
        return f"{source}: key '{where}': {error['msg']}"
    known = _fields(model, parents)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
    return f"{source}: unknown key '{where}'; {hint}"


def _fields(model: type[BaseModel], parents: list[str]) -> list[str]:
    for name in parents:
        field = model.model_fields.get(name)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]  # X, or X | None
        inner = [kind for kind in kinds if hasattr(kind, "model_fields")]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
