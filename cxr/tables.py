"""The tables that stages hand on: their schemas, checked when a table is written and when it is read."""

from pathlib import Path

import pandas as pd

from cxr.errors import UsageError
from cxr.files import write_atomically

# Kinds: str (null allowed where stated), int, float (null allowed), bool.
Schema = dict[str, str]

MANIFEST: Schema = {
    "image_id": "str", "split": "str", "path": "str", "patient": "str?", "age": "float", "sex": "str?",
    "view": "str?", "height": "int", "width": "int", "label": "float", "mask_area": "int", "rle": "str?",
}  # fmt: skip
"""split: train, unlabelled or test; path: relative to the data folder; label: 0, 1 or null (unknown);
mask_area: pixels of the original; rle: the union of the image's rows, null where unknown."""

INDEX: Schema = {"image_id": "str", "row": "int", "scale": "float", "dx": "int", "dy": "int", "mask_row": "int"}
"""row: of pixels.npy; canvas = original * scale + (dx, dy), to half a pixel (exactly: cxr.imaging.geometry.Letterbox);
mask_row: of masks.npy, -1 where there is no mask."""

FOLDS: Schema = {"image_id": "str", "fold": "int", "subfold": "int", "val": "bool"}
"""val: whether trainings that choose by a score validate on it, where its fold is not the one held out."""

BOXES: Schema = {
    "Filename": "str", "xmin": "float", "xmax": "float", "ymin": "float", "ymax": "float",
    "score": "float", "source": "str",
}  # fmt: skip
"""Filename: image_id + '.png'; pixels of the original; source: model, fallback or edited."""

PREDICTIONS: Schema = {"image_id": "str", "split": "str", "prob": "float"}
STACKED: Schema = {"image_id": "str", "split": "str", "prob": "float", "positive": "bool"}
MAP_INDEX: Schema = {"image_id": "str", "row": "int", "prob": "float"}
"""prob: of a pneumothorax, by the segmenter's own label head; null where it has none."""

CASES: Schema = {
    "image_id": "str", "split": "str", "patient": "str?", "fold": "int", "head": "int", "label": "float",
    "prob": "float", "positive": "bool", "age": "float", "sex": "str?", "view": "str?", "share": "float",
    "truth": "int", "found": "int", "overlap": "int", "lesions": "int", "hit": "int", "extra": "int", "nsd": "float",
}  # fmt: skip
"""The evaluated images, a row each. split: train (held-out) or test; fold: -1 for the test; head: which one scored it;
share: of the image that is lesion; truth, found, overlap: pixels of the original; lesions: connected parts of the
truth, hit: of them touched by the final mask, extra: parts of the final mask that touch none; nsd: normalised surface
distance at 5 pixels of 1024, 1 where both masks are empty, 0 where one is. chest_tube (1, 0, null) may be there too."""

SUBMISSION: Schema = {"ImageId": "str", "EncodedPixels": "str"}
REJECTED: Schema = {"path": "str", "reason": "str"}

_DTYPES = {"str": "str", "str?": "object", "int": "int64", "float": "float64", "bool": "bool"}


def write_table(table: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Write `table` to a .parquet or .csv file in one step, its columns in the schema's order."""
    table = enforce_schema(table, schema, str(path))
    with write_atomically(path) as temporary_path:
        if path.suffix == ".parquet":
            with open(temporary_path, "wb") as file:  # Python's: pyarrow takes names in UTF-8 only
                table.to_parquet(file, index=False)
        else:
            table.to_csv(temporary_path, index=False)


def read_table(path: Path, schema: Schema, made_by: str) -> pd.DataFrame:
    """Read a table and check it; where there is none, UsageError names the step that makes it."""
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {made_by}")
    if path.suffix == ".parquet":
        with open(path, "rb") as file:
            return enforce_schema(pd.read_parquet(file), schema, str(path))
    string_dtypes = {name: str for name, kind in schema.items() if kind.startswith("str")}
    return enforce_schema(pd.read_csv(path, dtype=string_dtypes, keep_default_na=True), schema, str(path))


def enforce_schema(table: pd.DataFrame, schema: Schema, location: str) -> pd.DataFrame:
    """`table` with exactly the schema's columns and kinds; UsageError names the column at fault."""
    missing = [name for name in schema if name not in table.columns]
    if missing:
        raise UsageError(f"{location}: column {', '.join(missing)} is missing (expected {', '.join(schema)})")
    table = table[list(schema)].copy()
    for name, kind in schema.items():
        if kind in ("str", "int", "bool") and table[name].isna().any():
            row = int(table[name].isna().to_numpy().argmax()) + 2
            raise UsageError(f"{location}: column {name} is empty in row {row}")
        try:
            table[name] = table[name].astype(_DTYPES[kind])
            if kind == "str?":  # None, not NaN: a file gives back NaN, which is true, and no string
                table[name] = table[name].where(table[name].notna(), None)
        except (TypeError, ValueError):
            raise UsageError(f"{location}: column {name} holds something that is not {kind.rstrip('?')}") from None
    if "image_id" in schema and table["image_id"].duplicated().any():
        duplicate_id = table["image_id"][table["image_id"].duplicated()].iloc[0]
        raise UsageError(f"{location}: {duplicate_id} stands there twice")
    return table
