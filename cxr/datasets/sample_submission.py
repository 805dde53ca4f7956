"""The sample submission: which images a submission names, in which order and form; read once, by prepare."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from cxr.datasets import user_tables
from cxr.datasets.image_ids import parse_image_id
from cxr.errors import DataError, UsageError
from cxr.files import read_json, write_json

HEADER = ("ImageId", "EncodedPixels")


@dataclass(frozen=True)
class SampleSubmission:
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


def read_sample_submission(path: Path) -> SampleSubmission:
    """A sample submission of any usual form; an image of several masks is named several times, and counts once.

    Raises DataError that names file and line where it is damaged, spells an image in two ways, or names none.
    """
    names: dict[str, str] = {}
    for line, name, _ in user_tables.read_image_values(path, HEADER):
        first_spelling = names.setdefault(parse_image_id(name), name)
        if first_spelling != name:
            raise DataError(f"{path}, line {line}: {name} is an image that stands there as {first_spelling}, too")
    if not names:
        raise DataError(f"{path} names no image; fill it, or remove it, so that the folder test tells what to predict")
    return SampleSubmission(list(names), {key: name for key, name in names.items() if name != key}, *_read_form(path))


def _read_form(path: Path) -> tuple[tuple[str, str], str, tuple[str, ...]]:
    """Header, blank and other columns, as they stand in the file."""
    rows = [cells for _, cells in user_tables.read_lines(path, skip_blanks=False)]
    id_column, code_column = user_tables.find_columns(rows[0], HEADER)
    extra_columns = tuple(
        name.strip() for column, name in enumerate(rows[0]) if column not in (id_column, code_column) and name.strip()
    )
    blank = " " if all(cells[code_column].startswith(" ") for cells in rows[1:]) else ""
    return (rows[0][id_column], rows[0][code_column]), blank, extra_columns


def write_sample_submission(sample: SampleSubmission | None, path: Path) -> None:
    """Keep it, or that the data has none, as JSON."""
    write_json(path, asdict(sample) if sample else {"ids": None})


def load_sample_submission(path: Path) -> SampleSubmission | None:
    """What `write_sample_submission` kept; UsageError where nothing is."""
    record = read_json(path)
    if record is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: prepare (python -m prepare)")
    if record["ids"] is None:
        return None
    return SampleSubmission(**record | {name: tuple(record[name]) for name in ("header", "others")})
