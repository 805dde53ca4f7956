"""The sample submission: which images a submission names, in which order and form; read once, by prepare."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from cxr import user_tables
from cxr.errors import DataError, UsageError
from cxr.files import read_json, write_json
from cxr.ids import image_id

HEADER = ("ImageId", "EncodedPixels")


@dataclass(frozen=True)
class Sample:
    """What a submission must look like."""

    ids: list[str]
    """Images in their order, each once."""
    names: dict[str, str] = field(default_factory=dict)
    """How the file spells them, by id, where not as the id: with an ending, say."""
    header: tuple[str, str] = HEADER
    """As it stands in the file, with its blanks."""
    blank: str = ""
    """What stands before a code: the first release has a blank there."""
    others: tuple[str, ...] = ()
    """Further columns, which a submission has not."""


def read(path: Path) -> Sample:
    """A sample submission of any usual form; an image of several masks is named several times, and counts once.

    Raises DataError that names file and line where it is damaged, spells an image in two ways, or names none.
    """
    names: dict[str, str] = {}
    for line, name, _ in user_tables.of_images(path, HEADER):
        known = names.setdefault(image_id(name), name)
        if known != name:
            raise DataError(f"{path}, line {line}: {name} is an image that stands there as {known}, too")
    if not names:
        raise DataError(f"{path} names no image; fill it, or remove it, so that the folder test tells what to predict")
    return Sample(list(names), {key: name for key, name in names.items() if name != key}, *_form(path))


def _form(path: Path) -> tuple[tuple[str, str], str, tuple[str, ...]]:
    """Header, blank and other columns, as they stand in the file."""
    rows = [cells for _, cells in user_tables.lines(path, skip_blanks=False)]
    first, second = user_tables.positions(rows[0], HEADER)
    others = tuple(name.strip() for place, name in enumerate(rows[0]) if place not in (first, second) and name.strip())
    blank = " " if all(cells[second].startswith(" ") for cells in rows[1:]) else ""
    return (rows[0][first], rows[0][second]), blank, others


def write(sample: Sample | None, path: Path) -> None:
    """Keep it, or that the data has none, as JSON."""
    write_json(path, asdict(sample) if sample else {"ids": None})


def load(path: Path) -> Sample | None:
    """What `write` kept; UsageError where nothing is."""
    values = read_json(path)
    if values is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: prepare (python -m cxr.prepare)")
    if values["ids"] is None:
        return None
    return Sample(**values | {name: tuple(values[name]) for name in ("header", "others")})

