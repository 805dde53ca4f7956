"""The table of chest boxes that a run's stage 0 writes and every later stage of the run reads."""

import math
from pathlib import Path

import pandas as pd

from cxr import tables
from cxr.datasets import user_tables
from cxr.datasets.image_ids import parse_image_id
from cxr.errors import DataError, UsageError
from cxr.imaging.geometry import Box
from cxr.paths import Paths

STAGE0_STEP = "stage 0 (cd stage0_bbox && bash run.sh)"


def read_boxes(path: Path) -> dict[str, Box]:
    """Box of each image in its original's pixels, by image_id."""
    return {key: Box(*row) for key, row in index_edges_by_image(read_boxes_table(path)).items()}


def read_run_boxes(paths: Paths) -> dict[str, Box]:
    """`read_boxes` of the boxes that a run uses; says so where the user has edited boxes since stage 0 wrote them."""
    editable_path, written_path = paths.editable_boxes_csv, written_copy_path(paths.editable_boxes_csv)
    if editable_path.is_file() and written_path.is_file() and editable_path.read_bytes() != written_path.read_bytes():
        print(
            f"{editable_path} was edited since stage 0 wrote it; the edits are taken up by: {STAGE0_STEP}", flush=True
        )
    return read_boxes(paths.boxes_csv)


def written_copy_path(path: Path) -> Path:
    """The hidden copy of what stage 0 last wrote to the table that the user may edit, `path`."""
    return path.with_name(f".{path.stem}.written.csv")


def read_boxes_table(path: Path) -> pd.DataFrame:
    """tables.BOXES of a dataset, also as a spreadsheet saves it. DataError where a cell is not a number."""
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STAGE0_STEP}")
    columns_by_name = {name.lower(): (name, kind) for name, kind in tables.BOXES.items()}
    rows = []
    for line, row in user_tables.read_records(path):
        location, cells = f"{path}, row {line}", {name: cell for name, cell in row.items() if name in columns_by_name}
        rows.append(
            {
                columns_by_name[name][0]: _parse_cell(cell, columns_by_name[name][1], location)
                for name, cell in cells.items()
            }
        )
        _require_box(rows[-1], location)
    present_columns = {
        columns_by_name[name][0]
        for name in user_tables.normalise_columns(user_tables.read_header_cells(path))
        if name in columns_by_name
    }
    table = tables.enforce_schema(pd.DataFrame(rows, columns=sorted(present_columns)), tables.BOXES, str(path))
    if (lacks_edge := table[["xmin", "xmax", "ymin", "ymax"]].isna().any(axis=1)).any():
        raise DataError(f"{path}: {table['Filename'][lacks_edge].iloc[0]} has an edge without a number")
    return table


def _require_box(row: dict[str, str | float | None], location: str) -> None:
    edges = [row.get(name) for name in ("xmin", "xmax", "ymin", "ymax")]
    if None in edges:
        return  # a column or a cell is missing, which the table's own check says
    if not all(map(math.isfinite, edges)) or edges[0] >= edges[1] or edges[2] >= edges[3]:
        raise DataError(f"{location}: needs numbers xmin < xmax and ymin < ymax")


def _parse_cell(cell: str, kind: str, location: str) -> str | float | None:
    try:
        return user_tables.parse_number(cell) if cell and kind == "float" else cell or None
    except ValueError as error:
        raise DataError(f"{location}: {error}") from None


def index_edges_by_image(table: pd.DataFrame) -> dict[str, tuple[float, float, float, float]]:
    """(xmin, ymin, xmax, ymax) by image_id, from a table whose columns stand in the published order."""
    edges = table[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float)
    return dict(zip(map(parse_image_id, table["Filename"]), map(tuple, edges), strict=True))
