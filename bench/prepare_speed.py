"""Images a second, CPU time and memory of `prepare`, compared with the plain loop of the first-place code.

    python -m bench.prepare_speed [--images 1000] [--size 512] [--workers 2]

Both read the same files: 1024 x 1024 JPEG-Baseline DICOMs made here, or the radiographs in CXR_REAL,
multiplied by links. The loop is `pydicom.dcmread(...).pixel_array` -> `cv2.resize` -> PNG, in one process
as published, and in as many as prepare takes. Aim: 250 images a second on two cores, under 1 GB resident.
On a busy machine go by the CPU time: two idle cores do 2000 / (ms of CPU an image) images a second.
"""

import argparse
import io
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from cxr import processes
from cxr.datasets import kaggle
from prepare import build_dataset

SIDE = 1024
DISTINCT_FILES = 50  # different files; the rest are links to them


class PlainLoopImage(NamedTuple):
    """One image of the plain loop."""

    source: Path
    target: Path
    size: int


def convert_plainly(image: PlainLoopImage) -> None:
    """Read, resize and write one image as the first-place code did."""
    pixels = pydicom.dcmread(image.source).pixel_array
    cv2.imwrite(str(image.target), cv2.resize(pixels, (image.size, image.size)))


def write_radiograph(path: Path, seed: int) -> Path:
    """Write a picture of broad shapes and film noise, with about 120 KB as large as SIIM-ACR's files."""
    rng = np.random.default_rng(seed)
    broad_shapes = cv2.resize(rng.uniform(0, 255, (9, 9)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(broad_shapes + rng.normal(0, 4, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    buffer, meta = io.BytesIO(), FileMetaDataset()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
    meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    header = FileDataset(None, {}, b"\0" * 128, meta)
    header.Modality, header.Rows, header.Columns, header.SamplesPerPixel = "CR", SIDE, SIDE, 1
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.PixelData = encapsulate([buffer.getvalue()])
    header["PixelData"].is_undefined_length = True
    header.save_as(path)
    return path


def link_data_folder(data: Path, count: int) -> None:
    """Link `count` images into the Kaggle layout: real radiographs where CXR_REAL has some, else made ones."""
    radiograph_folder = data.parent / "made"
    radiograph_folder.mkdir()
    sources = list_real_radiographs() or [
        write_radiograph(radiograph_folder / f"{seed}.dcm", seed) for seed in range(DISTINCT_FILES)
    ]
    (data / "dicom-images-train").mkdir(parents=True)
    rows = ["ImageId,EncodedPixels"]
    for number, source in zip(range(count), itertools.cycle(sources), strict=False):
        (data / "dicom-images-train" / f"image{number}.dcm").symlink_to(source)
        rows.append(f"image{number},{'300000 5000 6000 4000' if number % 5 == 0 else -1}")
    (data / "train-rle.csv").write_text("\n".join(rows) + "\n")


def list_real_radiographs() -> list[Path]:
    """The radiographs in the folder that CXR_REAL names; none without it."""
    if "CXR_REAL" not in os.environ:
        return []
    return [path.resolve() for path in sorted(Path(os.environ["CXR_REAL"]).glob("dicom-images-*/**/*.dcm"))]


class Usage:
    """Memory and CPU time of this process and its children, sampled while the `with` block runs."""

    def __init__(self) -> None:
        self.peak_resident_bytes, self._seconds_by_process, self._stop_event = 0, {}, threading.Event()
        self._sampling_thread = threading.Thread(target=self._sample_until_stopped)

    def __enter__(self) -> "Usage":
        self._sample_usage()
        self._seconds_before = self.cpu_seconds
        self._sampling_thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
        self._sampling_thread.join()
        self._sample_usage()

    @property
    def cpu_seconds(self) -> float:
        return sum(self._seconds_by_process.values())

    @property
    def spent_seconds(self) -> float:
        return self.cpu_seconds - self._seconds_before

    def _sample_until_stopped(self) -> None:
        while not self._stop_event.wait(0.05):
            self._sample_usage()

    def _sample_usage(self) -> None:
        resident_bytes, this_process = 0, psutil.Process()
        for process in [this_process, *this_process.children(recursive=True)]:
            try:
                times = process.cpu_times()
                resident_bytes += process.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
            self._seconds_by_process[process.pid] = times.user + times.system
        self.peak_resident_bytes = max(self.peak_resident_bytes, resident_bytes)


def time_images(name: str, images: int, process_images: Callable[[], object]) -> float:
    """Run `process_images` and print its speed and memory; returns images a second."""
    start = time.perf_counter()
    with Usage() as usage:
        process_images()
    rate = images / (time.perf_counter() - start)
    cpu_milliseconds, resident_megabytes = 1000 * usage.spent_seconds / images, usage.peak_resident_bytes / 2**20
    print(
        f"{name:26s} {rate:7.1f} images a second {cpu_milliseconds:7.2f} ms of CPU an image "
        f"{resident_megabytes:6.0f} MB resident",
        flush=True,
    )
    return rate


def compare_speeds(folder: Path, arguments: argparse.Namespace) -> float:
    """Time both in an empty folder, print their speeds; how many times as fast prepare is as one plain loop."""
    data, out, workers = folder / "data", folder / "out", arguments.workers
    link_data_folder(data, arguments.images)
    out.mkdir()
    files = kaggle.find_layout(data).dicoms
    loop_images = [PlainLoopImage(data / file.path, out / f"{file.name}.png", arguments.size) for file in files]
    first_images = loop_images[: max(arguments.images // 4, 1)]  # the loop is slow
    loop_rate = time_images(
        "plain loop, 1 process", len(first_images), lambda: [convert_plainly(image) for image in first_images]
    )
    time_images(
        f"plain loop, {workers} processes",
        len(first_images),
        lambda: list(processes.map_unordered(convert_plainly, first_images, workers)),
    )
    prepare_rate = time_images(
        f"prepare, {workers} processes",
        arguments.images,
        lambda: build_dataset.write_dataset(
            build_dataset.plan_dataset(kaggle.find_layout(data)), out, arguments.size, workers
        ),
    )
    return prepare_rate / loop_rate


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.prepare_speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    source = "CXR_REAL" if "CXR_REAL" in os.environ else "made here"
    print(f"{source}, {arguments.images} images, size {arguments.size}")
    with tempfile.TemporaryDirectory() as folder:
        ratio = compare_speeds(Path(folder), arguments)
    print(f"prepare is {ratio:.1f} times as fast as the plain loop")


if __name__ == "__main__":
    main()
