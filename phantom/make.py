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

from cxr.config import from_command_line
from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json
from cxr.processes import can_start
from cxr.progress import Line, clock
from phantom import dicom
from phantom.config import PhantomConfig, default_config
from phantom.plan import Item, plan
from phantom.render import render
from phantom.tables import Row, codes_of, write_tables

NOTE = "phantom.json"


def make(out: Path, config: PhantomConfig, processes: int | None = None) -> None:
    """Writes the data set into `out`, which appears only when all of it is there; UsageError where others lie."""
    note = {"generator": "phantom", "config": config.model_dump(mode="json")}
    if out.exists():
        if read_json(out / NOTE) == note:
            return print(f"phantoms: up to date in {out}", file=sys.stderr)
        raise UsageError(f"{out} exists and was not made with these settings; remove it or name another folder")
    beside = out.with_name(out.name + ".partial")
    if beside.exists():
        shutil.rmtree(beside)  # of a run that was killed: a minute's work, not worth mending
    beside.mkdir(parents=True)
    rows = write_images(beside, config, processes or len(os.sched_getaffinity(0)))
    write_tables(beside, rows, config.seed, config.reader_jitter * config.size)
    write_json(beside / NOTE, note)
    beside.rename(out)


def write_images(folder: Path, config: PhantomConfig, processes: int) -> list[Row]:
    """All DICOM files, on several processes, with one progress line."""
    items, rows, line, start = plan(config), [], Line("phantoms"), time.monotonic()
    work = partial(write_one, folder, config)
    for row in _in_order(work, items, processes if can_start() else 1):
        rows.append(row)
        rate = len(rows) / (time.monotonic() - start)
        left = clock((len(items) - len(rows)) / rate)
        line.say(f"{len(rows)}/{len(items)}, {rate:.1f} a second, {left} left")
    line.end(f"{len(rows)} in {clock(time.monotonic() - start)}, {rate:.1f} a second")
    return rows


def _in_order(work: Callable[[Item], Row], items: list[Item], processes: int) -> Iterator[Row]:
    if processes == 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(work, items, chunksize=4)


def write_one(folder: Path, config: PhantomConfig, item: Item) -> Row:
    """Renders one image and writes its file."""
    cv2.setNumThreads(0)  # a process for each core already
    phantom = render(config.seed, item.patient, item.view, config.size, item.positive, config)
    path = folder.joinpath(f"dicom-images-{item.split}", *dicom.folders(item, config.seed), f"{item.image_id}.dcm")
    dicom.write(path, phantom, item, config.seed, config.jpeg_quality)
    rows = item.split_rows or item.split == "test"
    return Row(item, codes_of(phantom.mask, rows), phantom.box, path.stat().st_size, phantom.chest_tube)


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise UsageError(f"name the folder to make\n{__doc__}")
    make(Path(sys.argv[1]), from_command_line(default_config(), sys.argv[2:], "python -m phantom.make OUT"))


if __name__ == "__main__":
    run_main(main)
