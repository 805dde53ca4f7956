"""What several tests share: DICOM files and a small data folder in the Kaggle layout, written on the spot."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.imaging import rle
from cxr.paths import Paths
from prepare.steps import PrepareConfig, prepare_data

SIDE = 64


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's artifacts go: never into the project."""
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FORCE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def real() -> Path:
    """The folder of real radiographs."""
    if "CXR_REAL" not in os.environ:
        pytest.skip("CXR_REAL is not set: no real radiographs to run on")
    return Path(os.environ["CXR_REAL"])


def dataset(pixels: np.ndarray, syntax: str = uid.ExplicitVRLittleEndian, **elements: object) -> FileDataset:
    """A radiograph of `pixels`, [height, width] of 8 or 16 bits, uncompressed; None leaves an element out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    bits = pixels.dtype.itemsize * 8
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    implicit = syntax == uid.ImplicitVRLittleEndian
    header = FileDataset(None, {}, b"\0" * 128, meta, is_implicit_VR=implicit, is_little_endian=order == "<")
    given = {
        "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": "1.2.3", "Modality": "CR",
        "PatientName": "Secret^Name", "PatientID": "secret-id", "PatientAge": "045Y", "PatientSex": "F",
        "ViewPosition": "PA", "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    } | elements  # fmt: skip
    for name, value in given.items():
        if value is not None:
            setattr(header, name, value)
    header.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    header["PixelData"].VR = "OW" if bits == 16 else "OB"
    return header


def save(header: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def as_jpeg(header: FileDataset, quality: int = 90) -> FileDataset:
    """The same radiograph, its 8-bit pixels as JPEG Baseline, as SIIM-ACR's are."""
    pixels = np.frombuffer(header.PixelData, np.uint8).reshape(header.Rows, header.Columns)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    header.PixelData = encapsulate([stream.getvalue()])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    header.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    return header


class Writer:
    """The functions above, for tests: `dicom.dataset(...)`, `dicom.save(...)`, `dicom.as_jpeg(...)`."""

    dataset, save, as_jpeg = staticmethod(dataset), staticmethod(save), staticmethod(as_jpeg)


@pytest.fixture
def dicom() -> type[Writer]:
    return Writer


@pytest.fixture
def prepared_paths(kaggle_folder, monkeypatch) -> Paths:
    """A small data folder prepared at 64 pixels in two folds, every image with the same chest box."""
    monkeypatch.setenv("CXR_WORKERS", "0")
    found = Paths(kaggle_folder(), "r", 64)
    prepare_data(found, PrepareConfig(size=64, folds=2, subfolds=2, seed=1), workers=1)
    ids = Prepared(found.prepared_folder, found.folds_csv).manifest["image_id"]
    box = {"xmin": 4.0, "xmax": 60.0, "ymin": 8.0, "ymax": 56.0, "score": 0.9, "source": "model"}
    tables.write_table(pd.DataFrame({"Filename": ids + ".png"} | box), found.boxes_csv, tables.BOXES)
    return found


@pytest.fixture
def kaggle_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a small data folder, and returns it."""

    def write(patients: int = 8, each: int = 2, tests: int = 3, with_patients: bool = True) -> Path:
        return _kaggle_folder(tmp_path / "data", patients, each, tests, with_patients)

    return write


def _kaggle_folder(data: Path, patients: int, each: int, tests: int, with_patients: bool) -> Path:
    """Every other patient shows a bright square, whose rows are its upper and its lower half, overlapping."""
    random = np.random.default_rng(0)
    rows, owners = ["ImageId, EncodedPixels"], ["ImageId,patient"]
    for number in range(patients * each):
        name, positive = f"1.2.{number}", number // each % 2 == 0
        pixels, mask = _picture(random, positive)
        save(as_jpeg(dataset(pixels)), data / f"dicom-images-train/{number}/{number}/{name}.dcm")
        rows += [f"{name}, {code}" for code in _halves(mask)] if positive else [f"{name}, -1"]
        owners.append(f"{name},p{number // each}")
    save(dataset(_picture(random, False)[0]), data / "dicom-images-train/unlabelled/1.9.0.dcm")
    sample = ["ImageId,EncodedPixels"]
    for number in range(tests):
        save(dataset(_picture(random, False)[0]), data / f"dicom-images-test/ID_{number:09d}.dcm")
        sample.append(f"ID_{number:09d},-1")
    for name, lines in {"train-rle.csv": rows, "sample_submission.csv": sample}.items():
        (data / name).write_text("\n".join(lines) + "\n")
    if with_patients:
        (data / "patients.csv").write_text("\n".join(owners) + "\n")
    return data


def _picture(random: np.random.Generator, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    pixels = random.integers(0, 120, (8, 8)).repeat(SIDE // 8, 0).repeat(SIDE // 8, 1).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    if positive:
        y, x, side = random.integers(2, 30, 3)
        mask[y : y + side, x : x + side] = True
    return np.where(mask, 250, pixels).astype(np.uint8), mask


def _halves(mask: np.ndarray) -> list[str]:
    upper, lower = mask.copy(), mask.copy()
    middle = int(np.flatnonzero(mask.any(axis=1)).mean())
    upper[middle + 1 :], lower[:middle] = False, False
    return [rle.encode_mask(upper), rle.encode_mask(lower)]
