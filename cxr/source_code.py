"""The code of ours that a command can reach, module by module, compared without comments, docstrings and layout."""

import ast
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from cxr.files import read_json, write_json
from cxr.paths import ROOT, home_folder


@cache
def reached_modules(
    command: str, chosen_modules: tuple[str, ...] = (), excluded_modules: tuple[str, ...] = (), root: Path = ROOT
) -> dict[str, str]:
    """Digest of each module below `root` that the module `command` imports, directly or through others.

    Imports within functions count, and those by import_module with a plain string; `chosen_modules` are
    chosen while it runs, `excluded_modules` are modules and whole packages that it imports for other work. Packages
    count with their __init__.py. Raises ModuleNotFoundError where `root` has no such command, or none of those in
    `chosen_modules`.
    """
    for name in (command, *chosen_modules):
        if _module_file(name, root) is None:
            raise ModuleNotFoundError(f"{root} has no module {name}")
    parse_cache, pending_names, digests = _ParseCache(), [f"{command}.__main__", command, *chosen_modules], {}
    while pending_names:
        name = pending_names.pop()
        is_left_out = name in digests or f"{name}.".startswith(
            tuple(f"{excluded_name}." for excluded_name in excluded_modules)
        )
        file = None if is_left_out else _module_file(name, root)
        if file is not None:
            digests[name], imported = parse_cache.digest_and_imports(file)
            pending_names += [*imported, name.rpartition(".")[0]]
    parse_cache.save_new_entries()
    return dict(sorted(digests.items()))


@cache
def _module_file(name: str, root: Path) -> Path | None:
    """The file of a module or package; None where `root` has none, as of others' packages and of names in a module."""
    base_path = root.joinpath(*name.split("."))
    candidates = (base_path.with_name(f"{base_path.name}.py"), base_path / "__init__.py")
    return next((file for file in candidates if name and file.is_file()), None)


class _ParseCache:
    """Cache of parsed files by content: to parse all that a command reaches takes half a second."""

    def __init__(self) -> None:
        self.path = home_folder() / "artifacts" / ".digests" / "source_code.json"
        self.earlier_entries = read_json(self.path) or {}
        self.used_entries: dict[str, list] = {}

    def digest_and_imports(self, file: Path) -> tuple[str, list[str]]:
        """Digest of a file's code, and the names that it imports, some of which may be no modules."""
        content = file.read_bytes()
        key = hashlib.sha256(_read_this_file() + content).hexdigest()
        self.used_entries[key] = self.earlier_entries.get(key) or list(_parse_code(content))
        return tuple(self.used_entries[key])

    def save_new_entries(self) -> None:
        """Note what is new."""
        if not self.used_entries.keys() <= self.earlier_entries.keys():
            with suppress(OSError):  # nowhere to write: parse again each time
                write_json(self.path, self.earlier_entries | self.used_entries)


@cache
def _read_this_file() -> bytes:
    return Path(__file__).read_bytes()


def _parse_code(content: bytes) -> tuple[str, list[str]]:
    tree = ast.parse(content)
    return hashlib.sha256(repr(_outline_tree(tree)).encode()).hexdigest()[:16], sorted(set(_imported_names(tree)))


def _outline_tree(node: object) -> object:
    """A tree as nested lists that Python 3.11 and later agree on: no empty fields, no texts that stand alone."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some with an empty text
        node = ast.JoinedStr([item for item in node.values if getattr(item, "value", None) != ""])
    if isinstance(node, ast.AST):
        fields = ((name, _outline_tree(value)) for name, value in ast.iter_fields(node))
        return [type(node).__name__, *(item for item in fields if item[1] not in (None, []))]
    if isinstance(node, list):
        return [_outline_tree(item) for item in node if not _is_docstring(item)]
    return node


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Call) and "import_module" in vars(node.func).values():  # of a name or an attribute
            yield from (name.value for name in node.args[:1] if isinstance(name, ast.Constant))
