"""Tables that a user gives: CSV in any usual encoding and with any usual separator, as spreadsheets save them."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from cxr.datasets.image_ids import parse_image_id
from cxr.errors import DataError

MAX_CELL_LENGTH = 1 << 24  # characters: Python's own limit is shorter than a ragged mask's code
SEPARATORS = ",;\t|"  # Excel writes ';' where the decimal sign is a comma, and tabs as 'Unicode text'
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
WORKBOOK_SIGNATURES = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
SAVE_ADVICE = "save it as 'CSV UTF-8'"


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or Windows-1252. Raises DataError where it is none, or cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if data.startswith(WORKBOOK_SIGNATURES):
        raise DataError(f"{path} is a workbook or an archive, no CSV: {SAVE_ADVICE}")
    try:
        text = data.decode(detect_encoding(data))
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8, UTF-16 or Windows-1252: {SAVE_ADVICE}") from None
    if "\0" in text:
        raise DataError(f"{path} is no text: it holds NUL characters; {SAVE_ADVICE}")
    return text


def detect_encoding(data: bytes) -> str:
    """The encoding of a text, as Python calls it.

    UTF-16 without a byte order mark is recognised by the zeros between ASCII letters.
    """
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return name
    if b"\0" in data[:2]:
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def detect_separator(text: str) -> str:
    """What stands between the cells: what Excel's line 'sep=' says, else the commonest in the header."""
    header = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
    sep_line = re.match(r'"?sep=(.)', header, re.IGNORECASE)
    return sep_line[1] if sep_line else max(SEPARATORS, key=header.count)


def read_lines(path: Path, skip_blanks: bool = True) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a CSV, its header first; empty lines and empty cells beyond the header's are left out.

    skip_blanks: pass over blanks after a separator. Raises DataError with the line of a row with more cells than the
    header, as an unquoted separator in a cell makes it, and of quotes that do not close.
    """
    text = read_text(path)
    delimiter = detect_separator(text)
    csv.field_size_limit(MAX_CELL_LENGTH)
    options = {"delimiter": delimiter, "skipinitialspace": skip_blanks, "strict": True}
    reader, column_count = csv.reader(io.StringIO(text, newline=""), **options), None
    try:
        for cells in reader:
            if len(cells) == 1 and delimiter in cells[0]:  # Excel quotes a whole row that it took for one cell
                (cells,) = csv.reader(cells, **options)
            if not any(map(str.strip, cells)) or cells[0].lower() == "sep=":
                continue
            column_count = column_count or len(cells)
            if any(map(str.strip, cells[column_count:])):
                raise DataError(
                    f"{path}, line {reader.line_num}: has {len(cells)} columns, the header {column_count}: "
                    f"put a cell that holds {delimiter!r} into quotes"
                )
            yield reader.line_num, cells[:column_count]
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}, after line {reader.line_num}: not a CSV ({error})") from None


def read_image_values(path: Path, required_columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """(line number, name of an image as it stands there, value) of each row of a table with the two `required_columns`.

    Raises DataError with the line where a column or a cell is missing, or no image is named.
    """
    rows = read_lines(path)
    _, header_cells = next(rows, (1, []))
    column_indices = find_columns(header_cells, required_columns)
    if column_indices is None:
        raise DataError(
            f"{path}, line 1: expected the columns {', '.join(required_columns)}, "
            f"found {', '.join(header_cells)[:80]!r}"
        )
    for line, cells in rows:
        if len(cells) <= max(column_indices):
            raise DataError(f"{path}, line {line}: has {len(cells)} of {len(header_cells)} columns")
        name, value = (cells[index].strip() for index in column_indices)
        if not parse_image_id(name):
            raise DataError(f"{path}, line {line}: names no image")
        yield line, name, value


def find_columns(header: list[str], required_columns: tuple[str, ...]) -> tuple[int, ...] | None:
    """Where the `required_columns` stand in a header, None where one is missing; case and blanks do not matter."""
    names, required_names = normalise_columns(header), [column.lower() for column in required_columns]
    return tuple(map(names.index, required_names)) if set(required_names) <= set(names) else None


def read_records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, cells by column) of each row; columns in lower case, cells that are not there empty."""
    rows = read_lines(path)
    header = normalise_columns(next(rows, (1, []))[1])
    for line, cells in rows:
        padded_cells = [*map(str.strip, cells), *[""] * (len(header) - len(cells))]
        yield line, dict(zip(reversed(header), reversed(padded_cells), strict=True))  # of two of one name the first


def normalise_columns(header: list[str]) -> list[str]:
    """Names of a header's columns to look them up by: lower case, no blanks, without VIA's leading '#'."""
    return [name.strip().lstrip("#").strip().lower() for name in header]


def read_header_cells(path: Path) -> list[str]:
    """The first row's cells; none where the table is empty or cannot be read."""
    try:
        return next(read_lines(path), (1, []))[1]
    except DataError:
        return []


def parse_number(text: str) -> float:
    """A number with a decimal point or comma. Raises ValueError where it is none, or may be two."""
    if re.fullmatch(r"\s*[+-]?\d{1,3},\d{3}\s*", text):
        number = text.strip()
        raise ValueError(
            f"{number} may mean {number.replace(',', '')} or {number.replace(',', '.')}: write one of them"
        )
    return float(text.replace(",", ".") if re.fullmatch(r"\s*[+-]?\d*,\d+\s*", text) else text)
