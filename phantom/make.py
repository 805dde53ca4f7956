"""A data set of phantoms in the Kaggle layout.

python -m phantom.make OUT [--train 480 --test 220 --seed 7 --size 1024]
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2

from cxr.config import override_settings
from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json
from cxr.processes import can_start_processes
from cxr.progress import ProgressLine, format_duration
from phantom import dicom
from phantom.config import PhantomConfig, default_config
from phantom.plan import PlannedImage, plan_dataset
from phantom.render import render_phantom
from phantom.tables import TableEntry, encode_mask, write_tables

SETTINGS_FILE = "phantom.json"


def make_phantoms(out: Path, config: PhantomConfig, processes: int | None = None) -> None:
    """Write the data set into `out`, which appears only when it is complete.

    Raises UsageError where `out` holds anything but a data set of the same settings.
    """
    settings_record = {"generator": "phantom", "config": config.model_dump(mode="json")}
    if out.exists():
        if read_json(out / SETTINGS_FILE) == settings_record:
            return print(f"phantoms: up to date in {out}", file=sys.stderr)
        raise UsageError(f"{out} exists and was not made with these settings; remove it or name another folder")
    partial_folder = out.with_name(out.name + ".partial")
    if partial_folder.exists():
        shutil.rmtree(partial_folder)  # left by a killed run: it is quicker to begin anew than to find what is missing
    partial_folder.mkdir(parents=True)
    entries = write_images(partial_folder, config, processes or len(os.sched_getaffinity(0)))
    write_tables(partial_folder, entries, config.seed, config.reader_jitter * config.size)
    write_json(partial_folder / SETTINGS_FILE, settings_record)
    partial_folder.rename(out)


def write_images(folder: Path, config: PhantomConfig, processes: int) -> list[TableEntry]:
    """Write all DICOM files, on several processes, with one progress line."""
    items, entries, progress_line, start = plan_dataset(config), [], ProgressLine("phantoms"), time.monotonic()
    write_item = partial(write_phantom, folder, config)
    for entry in _map_in_order(write_item, items, processes if can_start_processes() else 1):
        entries.append(entry)
        rate = len(entries) / (time.monotonic() - start)
        time_left = format_duration((len(items) - len(entries)) / rate)
        progress_line.show_progress(f"{len(entries)}/{len(items)}, {rate:.1f} a second, {time_left} left")
    progress_line.print_message(f"{len(entries)} in {format_duration(time.monotonic() - start)}, {rate:.1f} a second")
    return entries


def _map_in_order(
    write_item: Callable[[PlannedImage], TableEntry], items: list[PlannedImage], processes: int
) -> Iterator[TableEntry]:
    if processes == 1:
        yield from map(write_item, items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(write_item, items, chunksize=4)


def write_phantom(folder: Path, config: PhantomConfig, item: PlannedImage) -> TableEntry:
    """Render one image and write its file."""
    cv2.setNumThreads(0)  # there is a process for each core already
    phantom = render_phantom(config.seed, item.patient, item.image_number, config.size, item.positive, config)
    study_folder = folder.joinpath(f"dicom-images-{item.split}", *dicom.derive_study_uids(item, config.seed))
    path = study_folder / f"{item.image_id}.dcm"
    dicom.write_dicom(path, phantom, item, config.seed, config.jpeg_quality)
    codes = encode_mask(phantom.mask, per_region=item.has_split_rows or item.split == "test")
    return TableEntry(item, codes, phantom.box, path.stat().st_size, phantom.has_chest_tube)


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise UsageError(f"name the folder to make\n{__doc__}")
    make_phantoms(Path(sys.argv[1]), override_settings(default_config(), sys.argv[2:], "python -m phantom.make OUT"))


if __name__ == "__main__":
    run_main(main)
