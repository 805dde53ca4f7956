"""The documentation: every link leads somewhere, every command exists, each distinct one checked once."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from cxr.paths import ROOT

PAGES = sorted(
    path for pattern in ("*.md", "*/*.md") for path in ROOT.glob(pattern)
    if path.parent.name != "artifacts" and not path.parent.name.startswith(".")
)  # fmt: skip
README_LIMIT = 8000  # bytes
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
STARTS_COMMAND = re.compile(r"(\w+=\S* )*(python -m|bash|cd \w+ && bash) ")
SOURCE_FILE = re.compile(r"[\w.-]+(/[\w.-]+)+\.(py|yaml|md|sh|html|css)")
SHOWN_FILE = re.compile(r"`([\w/]+\.yaml)`[^`]*```yaml\n")
OPTION = re.compile(r"(?<!\S)\[?--([a-z][\w.-]*)")
NO_MODULE_OF_OUR_OWN = ("__init__.py", "__main__.py")
BRIEF_IN_THE_TREE = ("phantom", "bench", "tests")  # one line each; phantom/README.md names its files


class Command(NamedTuple):
    """A command that a page shows, and the folder that it is called from."""

    text: str
    folder: Path


@cache
def read_page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read_prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", read_page(path))


def list_links(path: Path) -> list[str]:
    return [link for link in LINK.findall(INLINE.sub("", read_prose(path))) if "://" not in link]


def list_anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(read_prose(path))}


def list_blocks(path: Path) -> list[str]:
    """The lines of a page's fenced blocks that are commands, without their comments."""
    lines = [line for _, kind, block in FENCED.findall(read_page(path)) if not kind for line in block.splitlines()]
    commands = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [text for text in commands if STARTS_COMMAND.match(text)]


def list_commands(path: Path) -> list[Command]:
    """The commands of a page, in blocks and in sentences; `run.sh` is called from the folder of its stage."""
    inline = [text for text in INLINE.findall(read_prose(path)) if STARTS_COMMAND.match(text)]
    calls_its_own = re.compile(r"(\w+=\S* )*bash run\.sh")
    return [Command(text, path.parent if calls_its_own.match(text) else ROOT) for text in (*list_blocks(path), *inline)]


def identify(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


LINKS = sorted({(path, link) for path in PAGES for link in list_links(path)})
COMMANDS = sorted({command for path in PAGES for command in list_commands(path)})


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= README_LIMIT


@pytest.mark.parametrize(("path", "link"), LINKS, ids=identify)
def test_a_link_leads_somewhere(path, link):
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    assert target.exists()
    assert not anchor or anchor in list_anchors(target)


def test_every_page_is_linked():
    targets = {(path.parent / link.partition("#")[0]).resolve() for path, link in LINKS}
    assert set(PAGES) - targets <= {ROOT / "README.md"}


@pytest.mark.parametrize("path", PAGES, ids=identify)
def test_a_source_file_that_a_page_names_exists(path):
    names = [name for name in INLINE.findall(read_prose(path)) if SOURCE_FILE.fullmatch(name)]
    shown = SHOWN_FILE.findall(read_page(path))  # by a page that gives its text
    in_rooms = [name for name in names if name.split("/")[0] in list_rooms() and name not in shown]
    assert [name for name in in_rooms if not (ROOT / name).is_file()] == []


def list_rooms() -> list[str]:
    folders = [path.name for path in ROOT.iterdir() if path.is_dir()]
    return [name for name in folders if not name.startswith(".") and name not in ("artifacts", "data")]


@pytest.mark.parametrize("path", PAGES, ids=identify)
def test_a_page_shows_no_command_twice(path):
    blocks = list_blocks(path)
    assert len(blocks) == len(set(blocks))


def test_commands_were_found():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_a_command_exists(command):
    for module in re.findall(r"python -m ([\w.]+)(?=[ )]|$)", command.text):
        assert is_runnable(module), module
        assert unknown_options(command, module.split(".")[0]) == []
    for folder, script in re.findall(r"(?:cd (\w+) && )?bash ([\w./]+)", command.text):
        path = (ROOT / folder if folder else command.folder) / script
        assert path.is_file()
        assert unknown_options(command, path.parent.name if script == "run.sh" else "pipeline") == []
    recipes = re.findall(r"recipes/(\w+)\.yaml", command.text)
    assert all((ROOT / "recipes" / f"{name}.yaml").is_file() for name in recipes if name != "mine")


def is_runnable(module: str) -> bool:
    """Whether `python -m` finds a command of ours by this name."""
    path = ROOT.joinpath(*module.split("."))
    file = path.with_suffix(".py")
    return (path / "__main__.py").is_file() or (file.is_file() and '__name__ == "__main__"' in file.read_text("utf-8"))


def unknown_options(command: Command, room: str) -> list[str]:
    """Options of a command that neither stand in the room's code nor are keys of its settings."""
    names, code = OPTION.findall(command.text), read_code(room)
    return [name for name in names if f"--{name}" not in code and not are_keys(name.split("."), code)]


@cache
def read_code(room: str) -> str:
    """The code of a room, and that of cxr, which has the settings that rooms share."""
    return "\n".join(path.read_text("utf-8") for name in (room, "cxr") for path in (ROOT / name).rglob("*.py"))


def are_keys(names: list[str], code: str) -> bool:
    return all(re.search(rf"^ +{name.replace('-', '_')}: ", code, re.MULTILINE) for name in names)


def test_the_tree_names_every_module():
    named = set(list_tree())
    modules = {
        str(path.relative_to(ROOT)) for room in list_rooms() for path in (ROOT / room).rglob("*.py")
        if room not in BRIEF_IN_THE_TREE and path.name not in NO_MODULE_OF_OUR_OWN
    }  # fmt: skip
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert sorted(modules - named) == [], "docs/layout.md does not name them"


def list_tree() -> list[str]:
    """The paths in the tree of docs/layout.md, whose indents are its folders."""
    block = read_page(ROOT / "docs" / "layout.md").split("## The tree")[1]
    paths, folders = [], {}
    for line in FENCED.search(block)[3].splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        parent = folders.get(indent - 2, "") if indent else ""
        folders[indent] = f"{parent}{name}"
        paths.append(f"{parent}{name}")
    return paths
