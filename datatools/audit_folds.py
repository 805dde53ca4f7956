"""Audit a fold file: how many held-out images share their patient with a training image, or look the same as one.

python -m datatools.audit_folds FOLDS.csv --patients patients.csv [--images DATA|PREPARED] [--labels CSV] [--json FILE]

FOLDS.csv: any fold file; its columns of image, fold (or train/valid split) and label are recognised by name. Where a
file lists each image once per fold, as train in some folds and valid in one, each fold is audited by its own split.
--images: a data folder in the Kaggle layout, or a prepared one. Near-duplicates are searched in it; labels and patients
are read from it unless they are given as files. Exit code 4: there is a leak.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr import tables
from cxr.datasets import kaggle, user_tables
from cxr.datasets.image_ids import parse_image_id
from cxr.errors import DataError, UsageError, run_main
from cxr.files import write_json
from cxr.paths import resolve_user_path
from evaluation.leakage import TRAIN, format_leakage, measure_leakage

IMAGE_COLUMNS = ("imageid", "imgid", "filename", "fname", "dicomid", "imagename", "imgname", "image", "img", "filepath",
         "imagepath", "path", "file", "name", "key", "id")  # fmt: skip
FOLD_COLUMNS = ("fold", "folds", "kfold", "foldid", "foldidx", "cvfold")
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "part", "isvalid", "isval", "isvalidation")
LABEL_COLUMNS = ("label", "labels", "target", "existlabels", "haspneumothorax", "pneumothorax", "hasmask", "class",
         "encodedpixels", "rle", "maskarea")  # fmt: skip
PART_NAMES = {"training": TRAIN, "trn": TRAIN, "tr": TRAIN, "-1": "", "-1.0": "", "none": "", "nan": "", "unused": ""}
NEGATIVE_VALUES = ("", "-1", "0", "0.0", "false", "no", "negative", "nan", "none")
PICTURE_SIDE = 128  # pixels; a JPEG decoded at a smaller size is good enough (datatools/doctor/image_scan.py)


class ImageTraits(NamedTuple):
    """Patient, group of near-duplicates and label of the images, by image_id; None where unknown for all."""

    patients: dict[str, str] | None = None
    duplicates: dict[str, int] | None = None
    labels: dict[str, float] | None = None


def read_fold_file(path: Path) -> tuple[pd.DataFrame, dict[str, float] | None]:
    """The folds of any fold file, image_id and fold, and the labels by image_id (0 or 1; None without such a column).

    Where each fold has a split of its own, there is a column division: the fold of the file. fold is then 'train', or
    the name of the held-out part. Raises UsageError where the file is missing or holds nothing out, DataError where it
    has no column of images or folds, or lists images in several folds without a split.
    """
    table = _read_csv(path)
    image, fold, split = (_find_column(table, names) for names in (IMAGE_COLUMNS, FOLD_COLUMNS, SPLIT_COLUMNS))
    if image is None:
        raise _explain_missing_column(path, table, "image", IMAGE_COLUMNS)
    if fold is None and split is None:
        raise _explain_missing_column(path, table, "fold", (*FOLD_COLUMNS, *SPLIT_COLUMNS))
    ids = table[image].map(parse_image_id)
    return _assign_parts(path, ids, table, fold, split), _read_label_column(table, ids)


def _explain_missing_column(path: Path, table: pd.DataFrame, role: str, names: tuple[str, ...]) -> DataError:
    return DataError(f"{path}: no column of the {role} among {', '.join(table)}; known names: {', '.join(names)}")


def _read_label_column(table: pd.DataFrame, ids: pd.Series) -> dict[str, float] | None:
    """1 where a row of an image is positive, else 0, by image_id; None without a column of labels."""
    label = _find_column(table, LABEL_COLUMNS)
    if label is None:
        return None
    is_positive = ~table[label].str.strip().str.lower().isin(NEGATIVE_VALUES)
    return is_positive.groupby(ids).any().astype(float).to_dict()


def _read_csv(path: Path) -> pd.DataFrame:
    """A table whose cells are all text; of two columns with the same name the first is kept."""
    if not path.is_file():
        raise UsageError(f"there is no fold file {path}")
    rows = user_tables.read_lines(path)
    _, header = next(rows, (1, []))
    if not header:
        raise DataError(f"{path} is no CSV: it is empty")
    cells = [cells + [""] * (len(header) - len(cells)) for _, cells in rows]
    table = pd.DataFrame(cells, columns=[name.strip() for name in header], dtype=str)
    return table.loc[:, ~table.columns.duplicated()]


def _assign_parts(path: Path, ids: pd.Series, table: pd.DataFrame, fold: str | None, split: str | None) -> pd.DataFrame:
    """The folds that `read_fold_file` returns, from its columns of folds and splits, of which one may be None."""
    column = fold or split
    parts = pd.DataFrame({"image_id": ids, "fold": _normalise_parts(table[column])})
    used_rows = parts[parts["fold"] != ""].drop_duplicates(ignore_index=True)
    repeated_ids = used_rows.loc[used_rows["image_id"].duplicated(), "image_id"]
    if fold and split and (len(repeated_ids) or used_rows["fold"].nunique() < 2):
        return _apply_split(path, parts.assign(part=_normalise_parts(table[split])), split)
    if used_rows["fold"].nunique() < 2:
        raise UsageError(f"{path}: column {column} holds one part only: nothing is held out")
    if len(repeated_ids) and TRAIN not in set(used_rows["fold"]):
        raise DataError(
            f"{path}: image {repeated_ids.iloc[0]} is in several folds of column {column}, and nothing says in which "
            "of them it trains: add a column split (train, valid), or give a file for each fold with that column alone"
        )
    return used_rows


def _apply_split(path: Path, rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Each fold divided by its own split: rows of image_id, fold and part -> image_id, fold, division."""
    rows = rows[(rows["fold"] != "") & (rows["part"] != "")]
    if rows.empty:
        raise UsageError(f"{path}: columns fold and {split} name no part: nothing is held out")
    for fold, parts in rows.groupby("fold")["part"]:
        if TRAIN not in set(parts) or parts.nunique() < 2:
            part_names = ", ".join(sorted(set(parts)))
            raise DataError(
                f"{path}, fold {fold}: column {split} says {part_names} only; it must name both images that train and "
                "images that are held out"
            )
    held_out_parts = rows.loc[rows["part"] != TRAIN, "part"].nunique()
    names = rows["fold"] if held_out_parts == 1 else rows["fold"] + " " + rows["part"]
    columns = {
        "image_id": rows["image_id"],
        "fold": names.where(rows["part"] != TRAIN, TRAIN),
        "division": rows["fold"],
    }
    return pd.DataFrame(columns).drop_duplicates(ignore_index=True)


def _find_column(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    """The first column with one of these names, whatever its case, blanks and punctuation; None without one."""
    column_by_plain_name = {re.sub(r"[\W_]", "", column.lower()): column for column in reversed(table.columns)}
    return next((column_by_plain_name[name] for name in names if name in column_by_plain_name), None)


def _normalise_parts(values: pd.Series) -> pd.Series:
    """The name of each row's part: 'train', another name, or '' for an image that is in no part."""
    names = values.str.strip().str.lower().str.removesuffix(".0")
    if values.name.lower().replace("_", "").startswith("is"):
        return names.map(lambda name: TRAIN if name in NEGATIVE_VALUES else "valid")
    return names.replace(PART_NAMES)


def read_traits(images: Path, names: list[str]) -> ImageTraits:
    """Patients, near-duplicates and labels of the images `names`; images: a data folder or a prepared one."""
    if (images / "index.parquet").is_file():
        return _read_prepared_traits(images, names)
    return _read_data_traits(images, names)


def _read_prepared_traits(folder: Path, names: list[str]) -> ImageTraits:
    from cxr.datasets import near_duplicates
    from prepare import build_dataset

    manifest = tables.read_table(folder / "manifest.parquet", tables.MANIFEST, "prepare").set_index("image_id")
    present_names = [name for name in names if name in manifest.index]
    groups = near_duplicates.group_canvases(build_dataset.iterate_canvases(folder, present_names))
    patients = manifest["patient"].dropna().to_dict()
    return ImageTraits(
        patients or None, dict(zip(present_names, groups.tolist(), strict=True)), manifest["label"].dropna().to_dict()
    )


def _read_data_traits(data: Path, names: list[str]) -> ImageTraits:
    from cxr import processes
    from cxr.datasets import near_duplicates

    layout = kaggle.find_layout(data)
    files = layout.files_by_id
    tasks = [(name, data / files[name].path) for name in names if name in files]
    finished = processes.map_unordered(_read_picture, tasks)
    pictures = {task[0]: picture for task, picture in finished if isinstance(picture, tuple)}
    groups = near_duplicates.link_pictures(list(pictures.values())).tolist()
    labels = read_mask_labels(layout) if layout.rows_csv else None
    return ImageTraits(layout.read_patients() or None, dict(zip(pictures, groups, strict=True)), labels)


def _read_picture(task: tuple[str, Path]) -> tuple[np.ndarray, np.ndarray] | None:
    """Signature and thumbnail of an image, by which near-duplicates are found; None where it cannot be read."""
    from cxr.datasets import near_duplicates
    from cxr.imaging import dicom, grayscale
    from cxr.imaging.geometry import Letterbox

    try:
        gray, header = grayscale.read_radiograph(task[1], min_longer_side=PICTURE_SIDE)
    except dicom.ImageError:
        return None
    canvas = Letterbox(int(header.Rows), int(header.Columns), PICTURE_SIDE).image_to_canvas(gray)
    return near_duplicates.compute_signature(canvas), near_duplicates.make_thumbnail(canvas)


def read_mask_labels(layout: kaggle.Layout) -> dict[str, float]:
    """1 where an image has a mask row that is not empty, else 0, by image_id."""
    return {
        name: float(any(row.code not in NEGATIVE_VALUES for row in rows))
        for name, rows in layout.read_mask_rows().items()
    }


def gather_traits(folds: Iterable[str], images: Path | None, patients: Path | None, labels: Path | None) -> ImageTraits:
    """The traits of the images in a fold file; `patients` and `labels` override what `images` holds.

    folds: image_ids of the fold file
    images: a data folder in the Kaggle layout, or a prepared one; None: near-duplicates stay unknown
    patients: CSV of ImageId, patient
    labels: CSV of ImageId, EncodedPixels

    Raises DataError where a table has none of the images.
    """
    names = sorted(set(folds))
    traits = read_traits(images, names) if images else ImageTraits()
    if patients:
        traits = traits._replace(patients=kaggle.Layout(patients.parent, (), None, None, patients).read_patients())
    if labels:
        traits = traits._replace(labels=read_mask_labels(kaggle.Layout(labels.parent, (), labels, None, None)))
    for noun, values in zip(("patient", "picture", "label"), traits, strict=True):
        if values is not None and not values.keys() & set(names):
            raise DataError(f"none of the {len(names)} images of the fold file, as {names[0]!r}, has a {noun} there")
    return traits


def main() -> None:
    """Command: audit a fold file."""
    parser = argparse.ArgumentParser(
        prog="python -m datatools.audit_folds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folds", help="the fold file")
    for name, help_text in (("patients", "CSV: ImageId,patient"), ("images", "a data folder, or a prepared one"),
                       ("labels", "CSV: ImageId,EncodedPixels"), ("json", "where to write the figures")):  # fmt: skip
        parser.add_argument(f"--{name}", type=resolve_user_path, help=help_text)
    arguments = parser.parse_args()
    folds, labels = read_fold_file(resolve_user_path(arguments.folds))
    for path in filter(None, (arguments.patients, arguments.labels, arguments.images)):
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    traits = gather_traits(folds["image_id"], arguments.images, arguments.patients, arguments.labels)
    result = measure_leakage(folds, traits.patients, traits.duplicates, traits.labels or labels)
    if arguments.json:
        write_json(arguments.json, result)
    print(format_leakage(result))
    raise SystemExit(4 if result["leak"] else 0)


if __name__ == "__main__":
    run_main(main)
