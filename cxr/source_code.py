"""The code of ours that a command can reach, module by module, compared without comments, docstrings and layout."""

import ast
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from cxr.files import read_json, write_json
from cxr.paths import ROOT, home


@cache
def reached_modules(
    command: str, also: tuple[str, ...] = (), but_not: tuple[str, ...] = (), root: Path = ROOT
) -> dict[str, str]:
    """Digest of each module below `root` that the module `command` imports, directly or through others.

    Imports within functions count, and those by import_module with a plain string; `also` names modules that are
    chosen while it runs, `but_not` modules and whole packages that it imports for other work. Packages count with
    their __init__.py. Raises ModuleNotFoundError where `root` has no such command, or none of those in `also`.
    """
    for name in (command, *also):
        if _file(name, root) is None:
            raise ModuleNotFoundError(f"{root} has no module {name}")
    notes, waiting, found = _Notes(), [f"{command}.__main__", command, *also], {}
    while waiting:
        name = waiting.pop()
        left_out = name in found or f"{name}.".startswith(tuple(f"{other}." for other in but_not))
        file = None if left_out else _file(name, root)
        if file is not None:
            found[name], imported = notes.read(file)
            waiting += [*imported, name.rpartition(".")[0]]
    notes.keep()
    return dict(sorted(found.items()))


@cache
def _file(name: str, root: Path) -> Path | None:
    """The file of a module or package; None where `root` has none, as of others' packages and of names in a module."""
    place = root.joinpath(*name.split("."))
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in candidates if name and file.is_file()), None)


class _Notes:
    """What was read of files of this content before: to parse all that a command reaches takes half a second."""

    def __init__(self) -> None:
        self.path = home() / "artifacts" / ".digests" / "source_code.json"
        self.known = read_json(self.path) or {}
        self.used: dict[str, list] = {}

    def read(self, file: Path) -> tuple[str, list[str]]:
        """Digest of a file's code, and the names that it imports, some of which may be no modules."""
        content = file.read_bytes()
        key = hashlib.sha256(_of_this_file() + content).hexdigest()
        self.used[key] = self.known.get(key) or list(_parsed(content))
        return tuple(self.used[key])

    def keep(self) -> None:
        """Note what is new."""
        if not self.used.keys() <= self.known.keys():
            with suppress(OSError):  # nowhere to write: parse again each time
                write_json(self.path, self.known | self.used)


@cache
def _of_this_file() -> bytes:
    return Path(__file__).read_bytes()


def _parsed(content: bytes) -> tuple[str, list[str]]:
    tree = ast.parse(content)
    return hashlib.sha256(repr(_outline(tree)).encode()).hexdigest()[:16], sorted(set(_imports(tree)))


def _outline(node: object) -> object:
    """A tree as nested lists that Python 3.11 and later agree on: no empty fields, no texts that stand alone."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some with an empty text
        node = ast.JoinedStr([each for each in node.values if getattr(each, "value", None) != ""])
    if isinstance(node, ast.AST):
        fields = ((name, _outline(value)) for name, value in ast.iter_fields(node))
        return [type(node).__name__, *(each for each in fields if each[1] not in (None, []))]
    if isinstance(node, list):
        return [_outline(each) for each in node if not _is_docstring(each)]
    return node


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Call) and "import_module" in vars(node.func).values():  # of a name or an attribute
            yield from (name.value for name in node.args[:1] if isinstance(name, ast.Constant))
