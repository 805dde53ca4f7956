"""How many held-out images share their patient, or their looks, with the training images; of any fold file.

python -m cxr.leaks FOLDS.csv --patients patients.csv [--images DATA|PREPARED] [--labels CSV] [--json FILE]

FOLDS.csv: ours or a stranger's; the columns of image, fold (or train/valid split) and label are found by their names.
Where each image stands in every fold, as train in some and valid in one, each fold is audited by its own split.
--images: a data folder in the Kaggle layout, or a prepared one: near-duplicates are looked for in it, and labels and
patients taken from it where no file of them is given. Exit code 4: there is a leak.
"""

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr import kaggle, tables, user_tables
from cxr.errors import DataError, UsageError, run_main
from cxr.files import write_json
from cxr.ids import image_id
from cxr.paths import as_meant

TRAIN = "train"
IMAGE = ("imageid", "imgid", "filename", "fname", "dicomid", "imagename", "imgname", "image", "img", "filepath",
         "imagepath", "path", "file", "name", "key", "id")  # fmt: skip
FOLD = ("fold", "folds", "kfold", "foldid", "foldidx", "cvfold")
SPLIT = ("split", "set", "subset", "partition", "part", "isvalid", "isval", "isvalidation")
LABEL = ("label", "labels", "target", "existlabels", "haspneumothorax", "pneumothorax", "hasmask", "class",
         "encodedpixels", "rle", "maskarea")  # fmt: skip
SPLITS = {"training": TRAIN, "trn": TRAIN, "tr": TRAIN, "-1": "", "-1.0": "", "none": "", "nan": "", "unused": ""}
NEGATIVE = ("", "-1", "0", "0.0", "false", "no", "negative", "nan", "none")
PICTURE = 128  # pixels a near-duplicate is told by; a JPEG's smaller decode is good enough (cxr.doctor.look)


class Known(NamedTuple):
    """What is known of the images, by image_id; None: nothing."""

    patients: dict[str, str] | None = None
    duplicates: dict[str, int] | None = None
    labels: dict[str, float] | None = None


def leaks(
    folds: pd.DataFrame,
    patients: Mapping[str, str] | None,
    duplicates: Mapping[str, int] | None,
    labels: Mapping[str, float] | None,
) -> dict:
    """Of each held-out part, the images whose patient, or a near-duplicate, is in training too.

    folds: image_id and fold of each image; a fold called 'train' is the training of all others, else all other folds
    are; where there is a column division, those of the same one. patients, duplicates: the patient, and the number of
    the group of near-duplicates, by image_id; labels: above 0 where positive. None: unknown, and so are then the
    figures. An image that is itself on both sides counts.

    Returns images, patients_known, folds and all: of each part images, positive, and for `patient` and `duplicate`
    {images, share, positive, positive_share}; and leak: whether any of them is above 0.
    """
    table = folds[["image_id", "fold"]].assign(division=folds.get("division", "")).astype(str)
    table = table.drop_duplicates(ignore_index=True)
    table["positive"] = [bool((labels or {}).get(name, 0) > 0) for name in table["image_id"]]
    traits = {"patient": patients, "duplicate": duplicates}
    for trait, values in traits.items():
        table[trait] = [str((values or {}).get(name, f"of {name} alone")) for name in table["image_id"]]
        table[f"{trait}_seen"] = _seen(table, trait)
    held_out = table[table["fold"] != TRAIN]
    told = {trait for trait, values in traits.items() if values is not None}
    parts = sorted(held_out["fold"].unique(), key=lambda part: (len(part), part))
    figures = [{"fold": part} | _figures(held_out[held_out["fold"] == part], told, labels) for part in parts]
    return {
        "images": table["image_id"].nunique(),
        "patients_known": sum(name in (patients or {}) for name in table["image_id"].unique()),
        "folds": figures, "all": _figures(held_out, told, labels),
        "leak": bool(held_out[["patient_seen", "duplicate_seen"]].to_numpy().any()),
    }  # fmt: skip


def _seen(table: pd.DataFrame, trait: str) -> np.ndarray:
    """Whether another fold that is trained on holds the same value, bool [n]."""
    seen = np.zeros(len(table), bool)
    for rows in table.groupby("division").indices.values():
        seen[rows] = _seen_within(table.iloc[rows], trait)
    return seen


def _seen_within(table: pd.DataFrame, trait: str) -> np.ndarray:
    has_train = (table["fold"] == TRAIN).any()
    trained = table[table["fold"] == TRAIN] if has_train else table
    folds = trained.groupby(trait)["fold"].agg(set)
    return np.array([bool(folds.get(value, set()) - {fold})
                     for value, fold in zip(table[trait], table["fold"], strict=True)])  # fmt: skip


def _figures(part: pd.DataFrame, told: set[str], labels: Mapping | None) -> dict:
    positive = part[part["positive"]]
    counts = {"images": len(part), "positive": len(positive) if labels is not None else None}
    return counts | {trait: _share(part, positive, f"{trait}_seen", labels) if trait in told else None
                     for trait in ("patient", "duplicate")}  # fmt: skip


def _share(part: pd.DataFrame, positive: pd.DataFrame, seen: str, labels: Mapping | None) -> dict:
    figures = {"images": int(part[seen].sum()), "share": round(float(part[seen].mean()), 4)}
    known = labels is not None and len(positive) > 0
    return figures | {"positive": int(positive[seen].sum()) if labels is not None else None,
                      "positive_share": round(float(positive[seen].mean()), 4) if known else None}  # fmt: skip


def as_text(result: dict) -> str:
    """The figures as a table for a terminal or a report, a line for each fold."""
    lines = [f"{'held-out':10s} {'images':>7s} {'positive':>9s}   {'patient in training':26s} near-duplicate there"]
    for row in [*result["folds"], {"fold": "all"} | result["all"]]:
        positive = "unknown" if row["positive"] is None else f"{row['positive']:,}"
        shares = [_in_words(row[trait]) for trait in ("patient", "duplicate")]
        lines.append(f"{row['fold']:10s} {row['images']:7,} {positive:>9s}   {shares[0]:26s} {shares[1]}")
    known, images = result["patients_known"], result["images"]
    if known < images:
        lines.append("patients unknown" if not known else f"patients known of {known:,} of {images:,} images only")
    return "\n".join(lines)


def _in_words(figures: dict | None) -> str:
    if figures is None:
        return "unknown"
    of_positive = figures["positive_share"]
    return f"{figures['share']:.1%}" + ("" if of_positive is None else f", of positive {of_positive:.1%}")


def read(path: Path) -> tuple[pd.DataFrame, dict[str, float] | None]:
    """image_id and fold of a fold file of any make, and the labels, None where it holds none.

    Where each fold has a split of its own, too, the fold is the division, and its name that of what it holds out.
    Raises UsageError where there is no such file or nothing is held out, DataError where no column of image or fold is,
    and where images stand in several folds without a split.
    """
    table = _read_csv(path)
    image, fold, split, label = (_column(table, names) for names in (IMAGE, FOLD, SPLIT, LABEL))
    if image is None or (fold is None and split is None):
        what, names = ("image", IMAGE) if image is None else ("fold", (*FOLD, *SPLIT))
        raise DataError(f"{path}: no column of the {what} among {', '.join(table)}; known names: {', '.join(names)}")
    ids = table[image].map(image_id)
    folds = _divided(path, ids, table, fold, split)
    labels = None if label is None else (~table[label].str.strip().str.lower().isin(NEGATIVE)).groupby(ids).any()
    return folds, None if labels is None else labels.astype(float).to_dict()


def _read_csv(path: Path) -> pd.DataFrame:
    """A table of texts; of two columns of one name the first."""
    if not path.is_file():
        raise UsageError(f"there is no fold file {path}")
    rows = user_tables.lines(path)
    _, header = next(rows, (1, []))
    if not header:
        raise DataError(f"{path} is no CSV: it is empty")
    cells = [cells + [""] * (len(header) - len(cells)) for _, cells in rows]
    table = pd.DataFrame(cells, columns=[name.strip() for name in header], dtype=str)
    return table.loc[:, ~table.columns.duplicated()]


def _divided(path: Path, ids: pd.Series, table: pd.DataFrame, fold: str | None, split: str | None) -> pd.DataFrame:
    """What `read` returns of the columns found."""
    column = fold or split
    found = pd.DataFrame({"image_id": ids, "fold": _folds(table[column])})
    used = found[found["fold"] != ""].drop_duplicates(ignore_index=True)
    several = used.loc[used["image_id"].duplicated(), "image_id"]
    if fold and split and (len(several) or used["fold"].nunique() < 2):
        return _by_split(path, found.assign(part=_folds(table[split])), split)
    if used["fold"].nunique() < 2:
        raise UsageError(f"{path}: column {column} holds one part only: nothing is held out")
    if len(several) and TRAIN not in set(used["fold"]):
        raise DataError(
            f"{path}: image {several.iloc[0]} is in several folds of column {column}, and nothing says in which of "
            "them it trains: add a column split (train, valid), or give a file for each fold with that column alone"
        )
    return used


def _by_split(path: Path, rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Each fold by its own split: rows of image_id, fold and part -> image_id, fold, division."""
    rows = rows[(rows["fold"] != "") & (rows["part"] != "")]
    if rows.empty:
        raise UsageError(f"{path}: columns fold and {split} name no part: nothing is held out")
    for fold, parts in rows.groupby("fold")["part"]:
        if TRAIN not in set(parts) or parts.nunique() < 2:
            there = ", ".join(sorted(set(parts)))
            raise DataError(f"{path}, fold {fold}: column {split} says {there} only, not what trains and what not")
    held_out = rows.loc[rows["part"] != TRAIN, "part"].nunique()
    names = rows["fold"] if held_out == 1 else rows["fold"] + " " + rows["part"]
    found = {"image_id": rows["image_id"], "fold": names.where(rows["part"] != TRAIN, TRAIN), "division": rows["fold"]}
    return pd.DataFrame(found).drop_duplicates(ignore_index=True)


def _column(table: pd.DataFrame, names: Iterable[str]) -> str | None:
    plain = {re.sub(r"[\W_]", "", column.lower()): column for column in reversed(table.columns)}
    return next((plain[name] for name in names if name in plain), None)


def _folds(values: pd.Series) -> pd.Series:
    """Names of folds: 'train', the part's name, or '' for what is in none."""
    names = values.str.strip().str.lower().str.removesuffix(".0")
    if values.name.lower().replace("_", "").startswith("is"):
        return names.map(lambda name: TRAIN if name in NEGATIVE else "valid")
    return names.replace(SPLITS)


def known_of(images: Path, names: list[str]) -> Known:
    """Patients, near-duplicates and labels of the images named, from a data folder or a prepared one."""
    return _of_prepared(images, names) if (images / "index.parquet").is_file() else _of_data(images, names)


def _of_prepared(folder: Path, names: list[str]) -> Known:
    from cxr import duplicates, intake

    manifest = tables.read(folder / "manifest.parquet", tables.MANIFEST, "prepare").set_index("image_id")
    there = [name for name in names if name in manifest.index]
    groups = duplicates.groups(intake.canvases(folder, there))
    patients = manifest["patient"].dropna().to_dict()
    return Known(patients or None, dict(zip(there, groups.tolist(), strict=True)), manifest["label"].dropna().to_dict())


def _of_data(data: Path, names: list[str]) -> Known:
    from cxr import duplicates, processes

    layout = kaggle.find(data)
    files = layout.images
    tasks = [(name, data / files[name].path) for name in names if name in files]
    finished = processes.each(_small, tasks)
    small = {task[0]: found for task, found in finished if isinstance(found, tuple)}
    groups = duplicates.linked(list(small.values())).tolist()
    labels = positives(layout) if layout.rows_csv else None
    return Known(layout.patients() or None, dict(zip(small, groups, strict=True)), labels)


def _small(task: tuple[str, Path]) -> tuple[np.ndarray, np.ndarray] | None:
    """What a near-duplicate of an image is told by, None where it cannot be read."""
    from cxr import dicom, duplicates, images
    from cxr.geometry import Letterbox

    try:
        gray, header = images.read(task[1], least=PICTURE)
    except dicom.ImageError:
        return None
    canvas = Letterbox(int(header.Rows), int(header.Columns), PICTURE).apply(gray)
    return duplicates.signature(canvas), duplicates.thumbnail(canvas)


def positives(layout: kaggle.Layout) -> dict[str, float]:
    """1 where a mask row of an image is not empty, else 0, by image_id."""
    return {name: float(any(row.code not in NEGATIVE for row in rows)) for name, rows in layout.rows().items()}


def gather(folds: Iterable[str], images: Path | None, patients: Path | None, labels: Path | None) -> Known:
    """What is known of the images named in a fold file; files that are given go before what `images` holds."""
    names = sorted(set(folds))
    known = known_of(images, names) if images else Known()
    if patients:
        known = known._replace(patients=kaggle.Layout(patients.parent, (), None, None, patients).patients())
    if labels:
        known = known._replace(labels=positives(kaggle.Layout(labels.parent, (), labels, None, None)))
    for what, values in zip(("patient", "picture", "label"), known, strict=True):
        if values is not None and not values.keys() & set(names):
            raise DataError(f"none of the {len(names)} images of the fold file, as {names[0]!r}, has a {what} there")
    return known


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cxr.leaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folds", help="the fold file")
    for name, what in (("patients", "CSV: ImageId,patient"), ("images", "a data folder, or a prepared one"),
                       ("labels", "CSV: ImageId,EncodedPixels"), ("json", "where to write the figures")):  # fmt: skip
        parser.add_argument(f"--{name}", type=as_meant, help=what)
    given = parser.parse_args()
    folds, labels = read(as_meant(given.folds))
    for path in filter(None, (given.patients, given.labels, given.images)):
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    known = gather(folds["image_id"], given.images, given.patients, given.labels)
    result = leaks(folds, known.patients, known.duplicates, known.labels or labels)
    if given.json:
        write_json(given.json, result)
    print(as_text(result))
    raise SystemExit(4 if result["leak"] else 0)


if __name__ == "__main__":
    run_main(main)
