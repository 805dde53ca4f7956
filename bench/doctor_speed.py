"""How fast the doctor examines a data set of SIIM-ACR's size.

    python -m bench.doctor_speed [--images 12089] [--workers 2] [--phantoms 300] [--keep FOLDER]

The files are phantoms of 1024 x 1024, rendered once, then written again and again with other ids and slightly other
pixels (another brightness and JPEG quality, shifted, some noise): as much to read, decode and compare as with SIIM's.
Aim: at most 90 s on two cores. On a busy machine go by the CPU time: two idle cores take half of it.
"""

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate

from bench.prepare_speed import Usage
from cxr import images, kaggle
from cxr.doctor.examine import examine
from cxr.doctor.report import summary
from cxr.processes import each
from phantom.config import default_config
from phantom.make import make


def again(task: tuple[Path, Path, int]) -> None:
    """Write a radiograph once more: other pixels, the same header but for the name of the file."""
    source, target, seed = task
    random = np.random.default_rng(seed)
    gray = np.roll(images.read_gray(source), random.integers(-40, 40, 2), (0, 1))
    noise = random.standard_normal(gray.shape, np.float32) * 3  # a file's size is then that of a radiograph
    pixels = np.clip(gray * random.uniform(0.85, 1) + random.uniform(0, 20) + noise, 0, 255).astype(np.uint8)
    stream, header = io.BytesIO(), pydicom.dcmread(source)
    Image.fromarray(pixels).save(stream, "JPEG", quality=int(random.integers(70, 90)))
    header.PixelData = encapsulate([stream.getvalue()])
    target.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(target)


def fill(data: Path, phantoms: Path, count: int, workers: int) -> None:
    """`count` images in the Kaggle layout from those of `phantoms`, with their mask rows and a patient each."""
    layout = kaggle.find(phantoms)
    rows, tasks = layout.rows(), []
    lines, patients = ["ImageId, EncodedPixels"], ["ImageId,patient"]
    sources = [name for name in layout.images if name in rows and _is_jpeg(phantoms / layout.images[name].path)]
    for number in range(count):
        name, source = f"1.2.{number}", sources[number % len(sources)]
        tasks.append((phantoms / layout.images[source].path, data / f"train/{number}/{name}.dcm", number))
        lines += [f"{name}, {row.code}" for row in rows[source]]
        patients.append(f"{name},{number // 2}")
    for _ in each(again, tasks, workers):
        pass
    (data / "train-rle.csv").write_text("\n".join(lines) + "\n")
    (data / "patients.csv").write_text("\n".join(patients) + "\n")
    shutil.copytree(phantoms / "boundingbox_csv", data / "boundingbox_csv")


def _is_jpeg(path: Path) -> bool:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    plain = header.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit
    return plain and header.PhotometricInterpretation == "MONOCHROME2"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.doctor_speed")
    for name, default in (("images", 12_089), ("workers", 2), ("phantoms", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="where the files are made, and left for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.keep or Path(folder)
        data = place / f"images-{given.images}"
        if not data.exists():
            config = default_config().model_copy(update={"train": given.phantoms, "test": 0})
            make(place / "phantoms", config, given.workers)
            fill(place / "partial", place / "phantoms", given.images, given.workers)
            (place / "partial").rename(data)
        size = sum(file.size for file in kaggle.find(data).dicoms) / 2**30
        start = time.perf_counter()
        with Usage() as usage:
            report = examine(data, given.workers)
        seconds = time.perf_counter() - start
    print(f"{given.images} images, {size:.2f} GB, {given.workers} processes: {seconds:.1f} s, "
          f"{usage.spent:.1f} s of CPU, {usage.most_resident / 2**20:.0f} MB resident")  # fmt: skip
    print(summary(report))


if __name__ == "__main__":
    main()
