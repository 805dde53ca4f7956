"""Prepare's work: plan which image goes where, have it done by processes, gather the tables."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from cxr import kaggle, processes, rle, sample, tables
from cxr.canvases import Facts, Rows, Task, prepare_image
from cxr.errors import DataError
from cxr.files import replacing
from cxr.geometry import Letterbox
from cxr.ids import image_id
from cxr.progress import Line, clock
from cxr.sample import Sample

LOG_SECONDS = 15
EXAMPLES = 5  # in a warning
BATCH = 256  # canvases mapped at a time: their pages count as resident memory


class Image(NamedTuple):
    """An image to prepare; codes: its rows as (place in the CSV, code), None where unlabelled."""

    image_id: str
    path: str
    split: str
    patient: str | None
    codes: tuple[tuple[str, str], ...] | None

    @property
    def is_positive(self) -> bool:
        return any(code not in ("", rle.EMPTY) for _, code in self.codes or ())


@dataclass(frozen=True)
class Plan:
    """What to prepare, in the manifest's order, and what to tell the user beforehand."""

    data: Path
    images: list[Image]
    warnings: list[str]
    form: Sample | None = None
    """What the submission must look like; None: the data has no sample of it."""
    unreadable: list[kaggle.PassedOver] = field(default_factory=list)
    """DICOM files that cannot be opened: rejected without a look."""


def plan(layout: kaggle.Layout) -> Plan:
    """Match files with rows, sample submission and patients, nothing decoded yet.

    Raises DataError where there is no image, no labelled one, or one that is both train and test.
    """
    rows, form, patients = layout.rows(), layout.sample(), layout.patients()
    files, samples = layout.images, form.ids if form else []
    unreadable = [each for each in layout.passed_over if each.is_dicom]
    if not files:
        why = f" that can be opened; {unreadable[0].path}: {unreadable[0].reason}" if unreadable else ""
        raise DataError(f"{layout.data} holds no DICOM file (*.dcm){why}")
    in_test = set(samples)
    images = [_image(name, file, layout, rows, in_test, patients) for name, file in sorted(files.items())]
    if not any(image.split == "train" for image in images):
        raise DataError(
            f"{layout.data}: none of {len(images)} DICOM files is named by one of the {len(rows)} images "
            f"of {layout.rows_csv.name}: no labelled training image"
        )
    there = {*files, *(image_id(each.path.rpartition("/")[2]) for each in unreadable)}
    warnings = [*_warnings(layout, there, rows, samples), *_left_out(layout, form)]
    return Plan(layout.data, images, warnings, form, unreadable)


def _image(
    name: str, file: kaggle.File, layout: kaggle.Layout, rows: dict, in_test: set[str], patients: dict[str, str]
) -> Image:
    split = kaggle.split(name, file, rows, in_test)
    codes = tuple((f"{layout.rows_csv}, line {row.line}", row.code) for row in rows[name]) if name in rows else None
    return Image(name, file.path, split, patients.get(name), codes)


def _warnings(layout: kaggle.Layout, files: set[str], rows: dict, samples: list[str]) -> list[str]:
    found = _passed_over([each for each in layout.passed_over if not each.is_dicom])
    for table, names in ((layout.rows_csv, rows), (layout.sample_csv, samples)):
        missing = [name for name in names if name not in files]
        if missing:
            examples = ", ".join(missing[:EXAMPLES]) + (", ..." if len(missing) > EXAMPLES else "")
            found.append(f"{len(missing)} images of {table.name} have no DICOM file: {examples}")
    return found


def _left_out(layout: kaggle.Layout, form: Sample | None) -> Iterator[str]:
    """What of the tables is not taken as it stands."""
    placeholders = layout.placeholders()
    if placeholders:
        examples = ", ".join(map(repr, list(placeholders)[:EXAMPLES]))
        yield f"{sum(placeholders.values())} rows of {layout.patients_csv.name} name no patient ({examples}): unknown"
    if form and form.others:
        yield f"{layout.sample_csv.name} has columns that submission.csv will not have: {', '.join(form.others)}"


def _passed_over(entries: list[kaggle.PassedOver]) -> list[str]:
    """A line for each folder, table and link that is passed over; of many, the first ones."""
    lines = [f"passed over: {path} ({reason})" for path, reason in entries[:EXAMPLES]]
    more = len(entries) - EXAMPLES
    return lines + ([f"passed over: {more} more folders, tables and links"] if more > 0 else [])


def run(plan: Plan, folder: Path, size: int, workers: int | None) -> dict[str, int]:
    """Write pixels.npy, masks.npy and the tables into `folder`; the counts of what was found.

    Raises DataError where no image, or no labelled one, is usable.
    """
    with ExitStack() as stack:  # both arrays appear under their names together, or not at all
        pixels = Rows(stack.enter_context(replacing(folder / "pixels.npy")), (size, size))
        masks = Rows(stack.enter_context(replacing(folder / "masks.npy")), (size, size // 8))
        tasks = list(_tasks(plan, pixels, masks))
        pixels.create(len(tasks))
        masks.create(sum(image.is_positive for image in plan.images))
        results = _results(tasks, workers)
        rejected = _rejected(plan, results)
        tables.write(rejected, folder / "rejected.csv", tables.REJECTED)
        usable = [task for task in tasks if isinstance(results[task.image_id], Facts)]
        _require_usable(plan, usable, rejected)
        pixels.keep([task.row for task in usable])
        masks.keep([task.mask_row for task in usable if task.mask_row >= 0])
    manifest = _manifest(plan, results)
    tables.write(manifest, folder / "manifest.parquet", tables.MANIFEST)
    tables.write(_index(usable, manifest, size), folder / "index.parquet", tables.INDEX)
    sample.write(plan.form, folder / "sample.json")
    return _counts(manifest, rejected)


def _tasks(plan: Plan, pixels: Rows, masks: Rows) -> Iterator[Task]:
    mask_row = 0
    for row, image in enumerate(plan.images):
        place = mask_row if image.is_positive else -1
        mask_row += image.is_positive
        yield Task(image.image_id, plan.data / image.path, image.codes, pixels, row, masks, place)


def _results(tasks: list[Task], workers: int | None) -> dict[str, Facts | str]:
    """What became of each image: its facts, or why it was refused."""
    finished = processes.each(prepare_image, tasks, workers, preload=["cxr.canvases"])
    found = {task.image_id: result for task, result in _shown(finished, len(tasks))}
    died = "the decoder crashed on it, or ran out of memory"
    return {name: died if result is processes.DIED else result for name, result in found.items()}


def _shown(items: Iterable, total: int) -> Iterator:
    """Pass `items` on: under a bar with rate and time left on a terminal, else with a line now and then."""
    if sys.stderr.isatty():
        yield from tqdm(items, "prepare", total, unit=" images", smoothing=0.1)
        return
    line, start = Line("prepare", LOG_SECONDS), time.perf_counter()
    for done, item in enumerate(items, 1):
        yield item
        seconds = time.perf_counter() - start
        if seconds > LOG_SECONDS:
            left = clock((total - done) * seconds / done)
            line.say(f"{done} of {total} images, {done / seconds:.0f} a second, {left} left")


def _rejected(plan: Plan, results: dict[str, Facts | str]) -> pd.DataFrame:
    refused = [(image.path, results[image.image_id]) for image in plan.images
               if isinstance(results[image.image_id], str)]  # fmt: skip
    refused += plan.unreadable
    return pd.DataFrame(refused, columns=["path", "reason"])


def _require_usable(plan: Plan, usable: list[Task], rejected: pd.DataFrame) -> None:
    if not usable:
        path, reason = rejected.iloc[0]
        raise DataError(f"no usable image: all {len(rejected)} DICOM files are refused; {path}: {reason}")
    if not any(task.codes is not None for task in usable):
        labelled = sum(image.codes is not None for image in plan.images)
        raise DataError(f"no labelled training image: all {labelled} of them are refused, see rejected.csv")


def _manifest(plan: Plan, results: dict[str, Facts | str]) -> pd.DataFrame:
    records = [
        {"image_id": image.image_id, "split": image.split, "path": image.path, "patient": image.patient,
         "label": None if image.codes is None else float(facts.mask_area > 0)} | facts._asdict()
        for image in plan.images if isinstance(facts := results[image.image_id], Facts)
    ]  # fmt: skip
    return pd.DataFrame(records)


def _index(usable: list[Task], manifest: pd.DataFrame, size: int) -> pd.DataFrame:
    sides = zip(manifest["height"], manifest["width"], strict=True)
    boxes = [Letterbox(height, width, size) for height, width in sides]
    has_mask = np.array([task.mask_row >= 0 for task in usable])
    return pd.DataFrame({
        "image_id": manifest["image_id"], "row": np.arange(len(usable)), "scale": [box.scale for box in boxes],
        "dx": [box.offset[0] for box in boxes], "dy": [box.offset[1] for box in boxes],
        "mask_row": np.where(has_mask, np.cumsum(has_mask) - 1, -1),
    })  # fmt: skip


def _counts(manifest: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, int]:
    splits = manifest["split"].value_counts()
    return {"images": len(manifest), "train": int(splits.get("train", 0)),
            "with_pneumothorax": int((manifest["label"] == 1).sum()), "unlabelled": int(splits.get("unlabelled", 0)),
            "test": int(splits.get("test", 0)), "rejected": len(rejected)}  # fmt: skip


def canvases(folder: Path, image_ids: list[str]) -> Iterator[np.ndarray]:
    """Canvases of a prepared folder, uint8 [size, size], in the order given; little of it in memory at a time."""
    index = tables.read(folder / "index.parquet", tables.INDEX, "prepare").set_index("image_id")
    rows = index.loc[image_ids, "row"].tolist()
    for start in range(0, len(rows), BATCH):
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        yield from (np.asarray(pixels[row]) for row in rows[start : start + BATCH])
