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

from cxr import processes, tables
from cxr.datasets import kaggle
from cxr.datasets.image_ids import parse_image_id
from cxr.datasets.sample_submission import SampleSubmission, write_sample_submission
from cxr.errors import DataError
from cxr.files import write_atomically
from cxr.imaging import rle
from cxr.imaging.geometry import Letterbox
from cxr.progress import ProgressLine, format_duration
from prepare.letterboxed_arrays import ManifestEntry, PrepareTask, RowFile, prepare_image

LOG_SECONDS = 15
MAX_EXAMPLES = 5  # in a warning
CANVAS_BATCH = 256  # canvases mapped at a time: their pages count as resident memory


class ImagePlan(NamedTuple):
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
class DatasetPlan:
    """What to prepare, in the manifest's order, and what to tell the user beforehand."""

    data: Path
    images: list[ImagePlan]
    warnings: list[str]
    sample_submission: SampleSubmission | None = None
    """What the submission must look like; None: the data has no sample of it."""
    unreadable_files: list[kaggle.SkippedEntry] = field(default_factory=list)
    """DICOM files that cannot be opened: rejected without a look."""


def plan_dataset(layout: kaggle.Layout) -> DatasetPlan:
    """Match files with rows, sample submission and patients, nothing decoded yet.

    Raises DataError where there is no image, no labelled one, or one that is both train and test.
    """
    rows, sample_submission, patients = layout.read_mask_rows(), layout.read_sample(), layout.read_patients()
    files, sample_ids = layout.files_by_id, sample_submission.ids if sample_submission else []
    unreadable_files = [entry for entry in layout.skipped_entries if entry.is_dicom]
    if not files:
        detail = (
            f" that can be opened; {unreadable_files[0].path}: {unreadable_files[0].reason}" if unreadable_files else ""
        )
        raise DataError(f"{layout.data} holds no DICOM file (*.dcm){detail}")
    test_ids = set(sample_ids)
    images = [_plan_image(name, file, layout, rows, test_ids, patients) for name, file in sorted(files.items())]
    if not any(image.split == "train" for image in images):
        raise DataError(
            f"{layout.data}: none of {len(images)} DICOM files is named by one of the {len(rows)} images "
            f"of {layout.rows_csv.name}: no labelled training image"
        )
    present_ids = {*files, *(parse_image_id(entry.path.rpartition("/")[2]) for entry in unreadable_files)}
    warnings = [*_list_warnings(layout, present_ids, rows, sample_ids), *_list_ignored_cells(layout, sample_submission)]
    return DatasetPlan(layout.data, images, warnings, sample_submission, unreadable_files)


def _plan_image(
    image_id: str, file: kaggle.File, layout: kaggle.Layout, rows: dict, test_ids: set[str], patients: dict[str, str]
) -> ImagePlan:
    split = kaggle.assign_split(image_id, file, rows, test_ids)
    codes = (
        tuple((f"{layout.rows_csv}, line {row.line}", row.code) for row in rows[image_id]) if image_id in rows else None
    )
    return ImagePlan(image_id, file.path, split, patients.get(image_id), codes)


def _list_warnings(layout: kaggle.Layout, present_ids: set[str], rows: dict, sample_ids: list[str]) -> list[str]:
    warnings = _list_skipped_entries([entry for entry in layout.skipped_entries if not entry.is_dicom])
    for table_path, names in ((layout.rows_csv, rows), (layout.sample_csv, sample_ids)):
        missing = [name for name in names if name not in present_ids]
        if missing:
            examples = ", ".join(missing[:MAX_EXAMPLES]) + (", ..." if len(missing) > MAX_EXAMPLES else "")
            warnings.append(f"{len(missing)} images of {table_path.name} have no DICOM file: {examples}")
    return warnings


def _list_ignored_cells(layout: kaggle.Layout, sample_submission: SampleSubmission | None) -> Iterator[str]:
    """Warnings about cells of the tables that are not used as they are."""
    placeholders = layout.count_placeholders()
    if placeholders:
        examples = ", ".join(map(repr, list(placeholders)[:MAX_EXAMPLES]))
        yield f"{sum(placeholders.values())} rows of {layout.patients_csv.name} name no patient ({examples}): unknown"
    if sample_submission and sample_submission.others:
        columns = ", ".join(sample_submission.others)
        yield f"{layout.sample_csv.name} has columns that submission.csv will not have: {columns}"


def _list_skipped_entries(entries: list[kaggle.SkippedEntry]) -> list[str]:
    """A line for each skipped folder, table and link, up to a limit."""
    lines = [f"passed over: {path} ({reason})" for path, reason in entries[:MAX_EXAMPLES]]
    remaining_count = len(entries) - MAX_EXAMPLES
    return lines + ([f"passed over: {remaining_count} more folders, tables and links"] if remaining_count > 0 else [])


def write_dataset(plan: DatasetPlan, folder: Path, size: int, workers: int | None) -> dict[str, int]:
    """Write pixels.npy, masks.npy, manifest, index, rejected.csv and sample.json into `folder`.

    plan: the images and their mask rows.
    folder: the prepared data's.
    size: side of the square arrays, pixels.
    workers: processes; None: one for each processor.

    Returns the numbers of images by split and of rejected files.
    Raises DataError where no image, or no labelled one, is usable.
    """
    with ExitStack() as exit_stack:  # both arrays appear under their names together, or not at all
        pixels = RowFile(exit_stack.enter_context(write_atomically(folder / "pixels.npy")), (size, size))
        masks = RowFile(exit_stack.enter_context(write_atomically(folder / "masks.npy")), (size, size // 8))
        tasks = list(_list_tasks(plan, pixels, masks))
        pixels.allocate_file(len(tasks))
        masks.allocate_file(sum(image.is_positive for image in plan.images))
        results = _run_tasks(tasks, workers)
        rejected = _build_rejected_table(plan, results)
        tables.write_table(rejected, folder / "rejected.csv", tables.REJECTED)
        usable_tasks = [task for task in tasks if isinstance(results[task.image_id], ManifestEntry)]
        _require_usable(plan, usable_tasks, rejected)
        pixels.keep_rows([task.row for task in usable_tasks])
        masks.keep_rows([task.mask_row for task in usable_tasks if task.mask_row >= 0])
    manifest = _build_manifest(plan, results)
    tables.write_table(manifest, folder / "manifest.parquet", tables.MANIFEST)
    tables.write_table(_build_index(usable_tasks, manifest, size), folder / "index.parquet", tables.INDEX)
    write_sample_submission(plan.sample_submission, folder / "sample.json")
    return _count_images(manifest, rejected)


def _list_tasks(plan: DatasetPlan, pixels: RowFile, masks: RowFile) -> Iterator[PrepareTask]:
    next_mask_row = 0
    for row, image in enumerate(plan.images):
        image_mask_row = next_mask_row if image.is_positive else -1
        next_mask_row += image.is_positive
        yield PrepareTask(image.image_id, plan.data / image.path, image.codes, pixels, row, masks, image_mask_row)


def _run_tasks(tasks: list[PrepareTask], workers: int | None) -> dict[str, ManifestEntry | str]:
    """For each image its manifest entry, or the reason why it was refused."""
    task_results = processes.map_unordered(prepare_image, tasks, workers, preload=["prepare.letterboxed_arrays"])
    results = {task.image_id: result for task, result in _show_progress(task_results, len(tasks))}
    crash_reason = "the decoder crashed on it, or ran out of memory"
    return {name: crash_reason if result is processes.DIED else result for name, result in results.items()}


def _show_progress(items: Iterable, total: int) -> Iterator:
    """Pass `items` on: under a bar with rate and time left on a terminal, else with a line now and then."""
    if sys.stderr.isatty():
        yield from tqdm(items, "prepare", total, unit=" images", smoothing=0.1)
        return
    line, start = ProgressLine("prepare", LOG_SECONDS), time.perf_counter()
    for done_count, item in enumerate(items, 1):
        yield item
        seconds = time.perf_counter() - start
        if seconds > LOG_SECONDS:
            time_left = format_duration((total - done_count) * seconds / done_count)
            line.show_progress(f"{done_count} of {total} images, {done_count / seconds:.0f} a second, {time_left} left")


def _build_rejected_table(plan: DatasetPlan, results: dict[str, ManifestEntry | str]) -> pd.DataFrame:
    rejections = [(image.path, results[image.image_id]) for image in plan.images
               if isinstance(results[image.image_id], str)]  # fmt: skip
    rejections += plan.unreadable_files
    return pd.DataFrame(rejections, columns=["path", "reason"])


def _require_usable(plan: DatasetPlan, usable_tasks: list[PrepareTask], rejected: pd.DataFrame) -> None:
    if not usable_tasks:
        path, reason = rejected.iloc[0]
        raise DataError(f"no usable image: all {len(rejected)} DICOM files are refused; {path}: {reason}")
    if not any(task.codes is not None for task in usable_tasks):
        labelled_count = sum(image.codes is not None for image in plan.images)
        raise DataError(f"no labelled training image: all {labelled_count} of them are refused, see rejected.csv")


def _build_manifest(plan: DatasetPlan, results: dict[str, ManifestEntry | str]) -> pd.DataFrame:
    records = [
        {"image_id": image.image_id, "split": image.split, "path": image.path, "patient": image.patient,
         "label": None if image.codes is None else float(entry.mask_area > 0)} | entry._asdict()
        for image in plan.images if isinstance(entry := results[image.image_id], ManifestEntry)
    ]  # fmt: skip
    return pd.DataFrame(records)


def _build_index(usable_tasks: list[PrepareTask], manifest: pd.DataFrame, size: int) -> pd.DataFrame:
    sides = zip(manifest["height"], manifest["width"], strict=True)
    letterboxes = [Letterbox(height, width, size) for height, width in sides]
    has_mask = np.array([task.mask_row >= 0 for task in usable_tasks])
    return pd.DataFrame({
        "image_id": manifest["image_id"], "row": np.arange(len(usable_tasks)),
        "scale": [letterbox.scale for letterbox in letterboxes],
        "dx": [letterbox.content_offset[0] for letterbox in letterboxes],
        "dy": [letterbox.content_offset[1] for letterbox in letterboxes],
        "mask_row": np.where(has_mask, np.cumsum(has_mask) - 1, -1),
    })  # fmt: skip


def _count_images(manifest: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, int]:
    splits = manifest["split"].value_counts()
    return {"images": len(manifest), "train": int(splits.get("train", 0)),
            "with_pneumothorax": int((manifest["label"] == 1).sum()), "unlabelled": int(splits.get("unlabelled", 0)),
            "test": int(splits.get("test", 0)), "rejected": len(rejected)}  # fmt: skip


def iterate_canvases(folder: Path, image_ids: list[str]) -> Iterator[np.ndarray]:
    """Canvases of a prepared folder, uint8 [size, size], in the order given; little of it in memory at a time."""
    index = tables.read_table(folder / "index.parquet", tables.INDEX, "prepare").set_index("image_id")
    rows = index.loc[image_ids, "row"].tolist()
    for start in range(0, len(rows), CANVAS_BATCH):
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        yield from (np.asarray(pixels[row]) for row in rows[start : start + CANVAS_BATCH])
