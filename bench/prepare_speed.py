"""How fast prepare reads SIIM-like radiographs, beside the plain loop that the first-place code ran.

    python -m bench.prepare_speed [--images 1000] [--size 512] [--workers 2]

Both read the same files, 1024 x 1024 JPEG-Baseline DICOMs made here, or the radiographs in CXR_REAL,
replicated by links. The loop is `pydicom.dcmread(...).pixel_array` -> `cv2.resize` -> PNG, in one process
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

from cxr import intake, kaggle, processes

SIDE = 1024
MADE = 50  # different files; the rest are links to them


class Loop(NamedTuple):
    """One image of the plain loop."""

    source: Path
    target: Path
    size: int


def plain(image: Loop) -> None:
    """What the first-place code did to each image."""
    pixels = pydicom.dcmread(image.source).pixel_array
    cv2.imwrite(str(image.target), cv2.resize(pixels, (image.size, image.size)))


def make(path: Path, seed: int) -> Path:
    """A radiograph-like picture: broad shapes and film noise, about 120 KB as SIIM-ACR's files are."""
    random = np.random.default_rng(seed)
    broad = cv2.resize(random.uniform(0, 255, (9, 9)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(broad + random.normal(0, 4, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    stream, meta = io.BytesIO(), FileMetaDataset()
    Image.fromarray(pixels).save(stream, "JPEG", quality=75)
    meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    header = FileDataset(None, {}, b"\0" * 128, meta)
    header.Modality, header.Rows, header.Columns, header.SamplesPerPixel = "CR", SIDE, SIDE, 1
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.PixelData = encapsulate([stream.getvalue()])
    header["PixelData"].is_undefined_length = True
    header.save_as(path)
    return path


def fill(data: Path, count: int) -> None:
    """`count` images in the Kaggle layout: links to the real radiographs where there are some, else to made ones."""
    made = data.parent / "made"
    made.mkdir()
    real = sorted(Path(os.environ["CXR_REAL"]).glob("dicom-images-*/**/*.dcm")) if "CXR_REAL" in os.environ else []
    sources = [path.resolve() for path in real] or [make(made / f"{seed}.dcm", seed) for seed in range(MADE)]
    (data / "dicom-images-train").mkdir(parents=True)
    rows = ["ImageId,EncodedPixels"]
    for number, source in zip(range(count), itertools.cycle(sources), strict=False):
        (data / "dicom-images-train" / f"image{number}.dcm").symlink_to(source)
        rows.append(f"image{number},{'300000 5000 6000 4000' if number % 5 == 0 else -1}")
    (data / "train-rle.csv").write_text("\n".join(rows) + "\n")


class Usage:
    """Memory and processor time of this process and its children, sampled while it runs."""

    def __init__(self) -> None:
        self.most_resident, self._seconds, self._stop = 0, {}, threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> "Usage":
        self._sample()
        self._before = self.seconds
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        self._sample()

    @property
    def seconds(self) -> float:
        return sum(self._seconds.values())

    @property
    def spent(self) -> float:
        return self.seconds - self._before

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._sample()

    def _sample(self) -> None:
        held, me = 0, psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
                held += process.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
            self._seconds[process.pid] = times.user + times.system
        self.most_resident = max(self.most_resident, held)


def report(name: str, images: int, work: Callable[[], object]) -> float:
    """Run `work`, print its rate; images a second."""
    start = time.perf_counter()
    with Usage() as usage:
        work()
    rate = images / (time.perf_counter() - start)
    spent, held = 1000 * usage.spent / images, usage.most_resident / 2**20
    print(f"{name:26s} {rate:7.1f} images a second {spent:7.2f} ms of CPU an image {held:6.0f} MB resident", flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.prepare_speed")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "out"
        fill(data, given.images)
        out.mkdir()
        files = kaggle.find(data).dicoms
        loop = [Loop(data / file.path, out / f"{file.name}.png", given.size) for file in files]
        part = loop[: max(given.images // 4, 1)]  # it is slow
        print(f"{'CXR_REAL' if 'CXR_REAL' in os.environ else 'made here'}, {given.images} images, size {given.size}")
        one = report("plain loop, 1 process", len(part), lambda: [plain(image) for image in part])
        report(f"plain loop, {given.workers} processes", len(part),
               lambda: list(processes.each(plain, part, given.workers)))  # fmt: skip
        ours = report(f"prepare, {given.workers} processes", given.images,
                      lambda: intake.run(intake.plan(kaggle.find(data)), out, given.size, given.workers))  # fmt: skip
    print(f"prepare is {ours / one:.1f} times as fast as the plain loop")


if __name__ == "__main__":
    main()
