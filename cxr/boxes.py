"""The table of chest boxes that a run's stage 0 writes and every later stage of the run reads."""

import math
from pathlib import Path

import pandas as pd

from cxr import tables, user_tables
from cxr.errors import DataError, UsageError
from cxr.geometry import Box
from cxr.ids import image_id
from cxr.paths import Paths

STEP = "stage 0 (cd stage0_bbox && bash run.sh)"


def read(path: Path) -> dict[str, Box]:
    """Box of each image in its original's pixels, by image_id."""
    return {key: Box(*row) for key, row in by_image(read_table(path)).items()}


def read_run(paths: Paths) -> dict[str, Box]:
    """`read` of the boxes that a run uses; says so where the user has edited boxes since stage 0 wrote them."""
    editable, written = paths.editable_boxes, written_copy(paths.editable_boxes)
    if editable.is_file() and written.is_file() and editable.read_bytes() != written.read_bytes():
        print(f"{editable} was edited since stage 0 wrote it; the edits are taken up by: {STEP}", flush=True)
    return read(paths.boxes)


def written_copy(path: Path) -> Path:
    """The hidden copy of what stage 0 last wrote to the table that the user may edit, `path`."""
    return path.with_name(f".{path.stem}.written.csv")


def read_table(path: Path) -> pd.DataFrame:
    """tables.BOXES of a dataset; a user may have saved it with a spreadsheet. DataError where a number is none."""
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STEP}")
    kinds = {name.lower(): (name, kind) for name, kind in tables.BOXES.items()}
    rows = []
    for line, row in user_tables.records(path):
        place, cells = f"{path}, row {line}", {name: cell for name, cell in row.items() if name in kinds}
        rows.append({kinds[name][0]: _value(cell, kinds[name][1], place) for name, cell in cells.items()})
        _require_box(rows[-1], place)
    header = {kinds[name][0] for name in user_tables.columns(user_tables.header(path)) if name in kinds}
    table = tables.checked(pd.DataFrame(rows, columns=sorted(header)), tables.BOXES, str(path))
    if (empty := table[["xmin", "xmax", "ymin", "ymax"]].isna().any(axis=1)).any():
        raise DataError(f"{path}: {table['Filename'][empty].iloc[0]} has an edge without a number")
    return table


def _require_box(row: dict[str, str | float | None], place: str) -> None:
    edges = [row.get(name) for name in ("xmin", "xmax", "ymin", "ymax")]
    if None in edges:
        return  # a column or a cell is missing, which the table's own check says
    if not all(map(math.isfinite, edges)) or edges[0] >= edges[1] or edges[2] >= edges[3]:
        raise DataError(f"{place}: needs numbers xmin < xmax and ymin < ymax")


def _value(cell: str, kind: str, place: str) -> str | float | None:
    try:
        return user_tables.number(cell) if cell and kind == "float" else cell or None
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None


def by_image(table: pd.DataFrame) -> dict[str, tuple[float, float, float, float]]:
    """(xmin, ymin, xmax, ymax) by image_id, from a table whose columns stand in the published order."""
    edges = table[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float)
    return dict(zip(map(image_id, table["Filename"]), map(tuple, edges), strict=True))
