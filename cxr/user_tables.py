"""Tables that a user gives: CSV in any usual encoding and with any usual separator, as spreadsheets save them."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from cxr.errors import DataError
from cxr.ids import image_id

LONGEST_CELL = 1 << 24  # characters: Python's own limit is shorter than a ragged mask's code
SEPARATORS = ",;\t|"  # Excel writes ';' where the decimal sign is a comma, and tabs as 'Unicode text'
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
ADVICE = "save it as 'CSV UTF-8'"


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or Windows-1252. Raises DataError where it is none, or cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if data.startswith(WORKBOOKS):
        raise DataError(f"{path} is a workbook or an archive, no CSV: {ADVICE}")
    try:
        text = data.decode(encoding(data))
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8, UTF-16 or Windows-1252: {ADVICE}") from None
    if "\0" in text:
        raise DataError(f"{path} is no text: it holds NUL characters; {ADVICE}")
    return text


def encoding(data: bytes) -> str:
    """The encoding of a text, as Python calls it; UTF-16 without a mark has zeros between ASCII letters."""
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name
    if b"\0" in data[:2]:
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def separator(text: str) -> str:
    """What stands between the cells: what Excel's line 'sep=' says, else the commonest in the header."""
    header = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
    told = re.match(r'"?sep=(.)', header, re.IGNORECASE)
    return told[1] if told else max(SEPARATORS, key=header.count)


def lines(path: Path, skip_blanks: bool = True) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a CSV, its header first; empty lines and empty cells beyond the header's are left out.

    skip_blanks: pass over blanks after a separator. Raises DataError with the line of a row with more cells than the
    header, as an unquoted separator in a cell makes it, and of quotes that do not close.
    """
    text = read_text(path)
    between = separator(text)
    csv.field_size_limit(LONGEST_CELL)
    options = {"delimiter": between, "skipinitialspace": skip_blanks, "strict": True}
    reader, width = csv.reader(io.StringIO(text, newline=""), **options), None
    try:
        for cells in reader:
            if len(cells) == 1 and between in cells[0]:  # Excel quotes a whole row that it took for one cell
                (cells,) = csv.reader(cells, **options)
            if not any(map(str.strip, cells)) or cells[0].lower() == "sep=":
                continue
            width = width or len(cells)
            if any(map(str.strip, cells[width:])):
                raise DataError(
                    f"{path}, line {reader.line_num}: has {len(cells)} columns, the header {width}: "
                    f"put a cell that holds {between!r} into quotes"
                )
            yield reader.line_num, cells[:width]
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}, after line {reader.line_num}: not a CSV ({error})") from None


def of_images(path: Path, wanted: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """(line number, name of an image as it stands there, value) of each row of a table with the two `wanted` columns.

    Raises DataError with the line where a column or a cell is missing, or no image is named.
    """
    rows = lines(path)
    _, first = next(rows, (1, []))
    places = positions(first, wanted)
    if places is None:
        raise DataError(f"{path}, line 1: expected the columns {', '.join(wanted)}, found {', '.join(first)[:80]!r}")
    for line, cells in rows:
        if len(cells) <= max(places):
            raise DataError(f"{path}, line {line}: has {len(cells)} of {len(first)} columns")
        name, value = (cells[place].strip() for place in places)
        if not image_id(name):
            raise DataError(f"{path}, line {line}: names no image")
        yield line, name, value


def positions(header: list[str], wanted: tuple[str, ...]) -> tuple[int, ...] | None:
    """Where the `wanted` columns stand in a header, None where one is missing; case and blanks do not matter."""
    names, known = columns(header), [column.lower() for column in wanted]
    return tuple(map(names.index, known)) if set(known) <= set(names) else None


def records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, cells by column) of each row; columns in lower case, cells that are not there empty."""
    rows = lines(path)
    header = columns(next(rows, (1, []))[1])
    for line, cells in rows:
        filled = [*map(str.strip, cells), *[""] * (len(header) - len(cells))]
        yield line, dict(zip(reversed(header), reversed(filled), strict=True))  # of two of one name the first


def columns(header: list[str]) -> list[str]:
    """Names of a header's columns to look them up by: lower case, no blanks, without VIA's leading '#'."""
    return [name.strip().lstrip("#").strip().lower() for name in header]


def header(path: Path) -> list[str]:
    """The first row's cells; none where the table is empty or cannot be read."""
    try:
        return next(lines(path), (1, []))[1]
    except DataError:
        return []


def number(text: str) -> float:
    """A number with a decimal point or comma. Raises ValueError where it is none, or may be two."""
    if re.fullmatch(r"\s*[+-]?\d{1,3},\d{3}\s*", text):
        plain = text.strip()
        raise ValueError(f"{plain} may mean {plain.replace(',', '')} or {plain.replace(',', '.')}: write one of them")
    return float(text.replace(",", ".") if re.fullmatch(r"\s*[+-]?\d*,\d+\s*", text) else text)
