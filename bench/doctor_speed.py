"""Seconds, CPU time and memory that the doctor takes to examine a data set of SIIM-ACR's size.

    python -m bench.doctor_speed [--images 12089] [--workers 2] [--phantoms 200] [--keep FOLDER]

The files are phantoms of 1024 x 1024, rendered once, then written many times with other ids and slightly other pixels
(brightness, JPEG quality, shift, noise), so that there is as much to read, decode and compare as in SIIM-ACR's data.
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
from cxr.datasets import kaggle
from cxr.imaging import grayscale
from cxr.processes import map_unordered
from datatools.doctor.examine import examine_dataset
from datatools.doctor.report import summarise_findings
from phantom.config import default_config
from phantom.make import make_phantoms


def write_variant(task: tuple[Path, Path, int]) -> None:
    """Write a variant of a radiograph (source, target, seed): other pixels, the same header."""
    source, target, seed = task
    rng = np.random.default_rng(seed)
    gray = np.roll(grayscale.read_gray(source), rng.integers(-40, 40, 2), (0, 1))
    noise = rng.standard_normal(gray.shape, np.float32) * 3  # makes the file as large as a radiograph's
    pixels = np.clip(gray * rng.uniform(0.85, 1) + rng.uniform(0, 20) + noise, 0, 255).astype(np.uint8)
    buffer, header = io.BytesIO(), pydicom.dcmread(source)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(70, 90)))
    header.PixelData = encapsulate([buffer.getvalue()])
    target.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(target)


def write_data_folder(data: Path, phantoms: Path, count: int, workers: int) -> None:
    """Write images in the Kaggle layout as variants of phantoms, with their mask rows, two to a patient.

    data: the folder to write
    phantoms: a folder that phantom.make has written
    count: number of images
    workers: number of processes
    """
    layout = kaggle.find_layout(phantoms)
    rows, tasks = layout.read_mask_rows(), []
    lines, patients = ["ImageId, EncodedPixels"], ["ImageId,patient"]
    paths = {name: phantoms / file.path for name, file in layout.files_by_id.items() if name in rows}
    sources = [name for name, path in paths.items() if _is_jpeg(path)]
    for number in range(count):
        name, source = f"1.2.{number}", sources[number % len(sources)]
        tasks.append((paths[source], data / f"train/{number}/{name}.dcm", number))
        lines += [f"{name}, {row.code}" for row in rows[source]]
        patients.append(f"{name},{number // 2}")
    for _ in map_unordered(write_variant, tasks, workers):
        pass
    (data / "train-rle.csv").write_text("\n".join(lines) + "\n")
    (data / "patients.csv").write_text("\n".join(patients) + "\n")
    shutil.copytree(phantoms / "boundingbox_csv", data / "boundingbox_csv")


def _is_jpeg(path: Path) -> bool:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    is_baseline = header.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit
    return is_baseline and header.PhotometricInterpretation == "MONOCHROME2"


def make_data_folder(work_folder: Path, arguments: argparse.Namespace) -> Path:
    """The folder with the images, made unless it is there already."""
    data = work_folder / f"images-{arguments.images}"
    if not data.exists():
        config = default_config().model_copy(update={"train": arguments.phantoms, "test": 0})
        make_phantoms(work_folder / "phantoms", config, arguments.workers)
        write_data_folder(work_folder / "partial", work_folder / "phantoms", arguments.images, arguments.workers)
        (work_folder / "partial").rename(data)
    return data


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.doctor_speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("images", 12_089), ("workers", 2), ("phantoms", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="folder for the files, kept for the next time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work_folder = arguments.keep or Path(folder)
        data = make_data_folder(work_folder, arguments)
        gigabytes = sum(file.size for file in kaggle.find_layout(data).dicoms) / 2**30
        start = time.perf_counter()
        with Usage() as usage:
            report = examine_dataset(data, arguments.workers)
        seconds = time.perf_counter() - start
    print(f"{arguments.images} images, {gigabytes:.2f} GB, {arguments.workers} processes: {seconds:.1f} s, "
          f"{usage.spent_seconds:.1f} s of CPU, {usage.peak_resident_bytes / 2**20:.0f} MB resident")  # fmt: skip
    print(summarise_findings(report))


if __name__ == "__main__":
    main()
