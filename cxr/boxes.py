"""The table of chest boxes that a run's stage 0 writes and every later stage of the run reads."""

from pathlib import Path

import pandas as pd

from cxr import tables
from cxr.geometry import Box
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
    """tables.BOXES of a dataset."""
    return tables.read(path, tables.BOXES, STEP)


def by_image(table: pd.DataFrame) -> dict[str, tuple[float, float, float, float]]:
    """(xmin, ymin, xmax, ymax) by image_id, from a table whose columns stand in the published order."""
    edges = table[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float)
    return dict(zip(map(image_id, table["Filename"]), map(tuple, edges), strict=True))


def image_id(filename: str) -> str:
    """The image that a row names: the published files end in .png, the hand labels in .jpg."""
    for suffix in (".png", ".jpg", ".jpeg", ".dcm"):
        filename = filename.removesuffix(suffix)
    return filename
