"""The doctor on phantoms into which every kind of fault was planted: each is found, and on the right image."""

import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from cxr.imaging import grayscale
from cxr.paths import ROOT
from datatools.doctor import dataset_scan
from datatools.doctor.examine import DatasetReport, examine_dataset
from datatools.doctor.findings import load_catalogue
from phantom import dicom as phantom_dicom
from phantom.config import default_config
from phantom.make import make_phantoms

CONFIG = default_config().model_copy(update={"train": 90, "test": 6, "size": 256, "positive_share": 0.4,
                                             "monochrome1": 0.05, "split_rows": 0.0})  # fmt: skip
FULL = 256 * 256


def plainly(function: Callable, tasks: list, workers: int | None, preload: list) -> Iterator[tuple]:
    """cxr.processes.map_unordered, in this process."""
    assert all(find_spec(name) for name in preload)
    return ((task, function(task)) for task in tasks)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "clean"
    make_phantoms(folder, CONFIG, processes=2)
    return folder


def examined(data: Path) -> DatasetReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_scan.processes, "map_unordered", plainly)
        patch.setenv("CXR_HOME", str(data.parent / "home"))
        return examine_dataset(data)


class Ward:
    """A copy of the phantoms, one fault after the other planted in images that have none yet."""

    def __init__(self, clean: Path, folder: Path) -> None:
        self.data = Path(shutil.copytree(clean, folder))
        self.rows = [line.split(", ", 1) for line in (folder / "train-rle.csv").read_text().splitlines()[1:]]
        self.files = {path.stem: path for path in sorted(folder.rglob("*.dcm"))}
        names = [name for name, _ in self.rows]
        self.positive = [name for name, code in self.rows if code != "-1" and names.count(name) == 1]
        self.negative = [name for name, code in self.rows if code == "-1"]
        self.planted: dict[str, str] = {}

    def next(self, kind: str, positive: bool = False) -> str:
        """An image for a kind of fault."""
        name = (self.positive if positive else self.negative).pop()
        self.planted[kind] = name
        return name

    def code(self, kind: str, *codes: str, positive: bool = False, keep: bool = False) -> None:
        """Rows of an image in place of, or beside, its own."""
        name = self.next(kind, positive)
        self.rows = [row for row in self.rows if keep or row[0] != name] + [[name, code] for code in codes]

    def header(self, kind: str, **elements: object) -> None:
        path = self.files[self.next(kind)]
        header = pydicom.dcmread(path)
        for name, value in elements.items():
            setattr(header, name, value)
        header.save_as(path)

    def picture(self, name: str, pixels: np.ndarray, **elements: object) -> None:
        """Other pixels of an image, uint8 or uint16, uncompressed."""
        header = pydicom.dcmread(self.files[name])
        bits = pixels.dtype.itemsize * 8
        header.Rows, header.Columns = pixels.shape
        header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
        header.PhotometricInterpretation = "MONOCHROME2"
        for key, value in elements.items():
            setattr(header, key, value)
        header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        header.PixelData = pixels.tobytes()
        header["PixelData"].VR = "OB" if bits == 8 else "OW"
        header["PixelData"].is_undefined_length = False
        header.save_as(self.files[name])

    def gray(self, name: str) -> np.ndarray:
        return grayscale.read_gray(self.files[name])

    def line(self, table: str, text: str) -> None:
        with open(self.data / table, "a") as handle:
            handle.write(text + "\n")

    def drop(self, table: str, name: str) -> None:
        path = self.data / table
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith(name)))

    def close(self) -> None:
        rows = "".join(f"{name}, {code}\n" for name, code in self.rows)
        (self.data / "train-rle.csv").write_text("ImageId, EncodedPixels\n" + rows)


def plant_tables(ward: Ward) -> None:
    ward.rows.append(["ghost", "-1"])
    ward.line("sample_submission.csv", "ID_ghost,-1")
    ward.planted |= {"rows-without-image": "ghost", "samples-without-image": "ID_ghost", "csv-dialect": "train-rle.csv"}
    ward.line("sample_submission.csv", ward.next("images-in-both") + ",-1")
    name, other = ward.next("same-name"), ward.negative[0]
    shutil.copy(ward.files[other], ward.data / f"{name}.dcm")
    name = ward.next("copied-files")
    shutil.copy(ward.files[name], ward.data / f"{name}.dcm")


def plant_masks(ward: Ward) -> None:
    ward.code("bad-rle", "100 5 7")
    ward.code("rle-outside", f"{FULL - 3000} 4000")
    ward.code("overlapping-rows", "100 500", "300 400")
    ward.code("contradicting-rows", "-1", positive=True, keep=True)
    ward.code("tiny-masks", "100 5")
    ward.code("huge-masks", f"10 {FULL - 20}")
    ward.code("several-rows", "100 300", "9000 300")


def plant_headers(ward: Ward) -> None:
    ward.header("not-a-radiograph", Modality="CT")
    ward.header("no-modality", Modality="")
    ward.header("other-body-part", BodyPartExamined="KNEE")
    ward.header("non-frontal", ViewPosition="LL")
    ward.header("burned-in", BurnedInAnnotation="YES")
    ward.header("no-age", PatientAge="")
    ward.header("bad-age", PatientAge="414Y")
    ward.header("no-sex", PatientSex="")
    ward.header("no-view", ViewPosition="")
    path = ward.files[ward.next("unreadable")]
    path.write_bytes(path.read_bytes()[:3000])


def plant_pictures(ward: Ward) -> None:
    name = ward.next("rotated")
    ward.picture(name, np.ascontiguousarray(np.rot90(ward.gray(name), 2)))
    name = ward.next("looks-inverted")
    ward.picture(name, 255 - ward.gray(name))
    name = ward.next("deep-monochrome1")
    ward.picture(name, (255 - ward.gray(name)).astype(np.uint16) * 16, PhotometricInterpretation="MONOCHROME1",
                 BitsStored=12, HighBit=11)  # fmt: skip
    ward.picture(ward.next("blank"), np.full((256, 256), 7, np.uint8))
    ward.picture(ward.next("unlike-the-rest"), np.random.default_rng(0).integers(0, 255, (256, 256)).astype(np.uint8))
    name = ward.next("odd-size")
    ward.picture(name, np.ascontiguousarray(ward.gray(name)[::4, ::4]))
    ward.planted["several-sizes"] = name


def plant_copies(ward: Ward) -> None:
    test = sorted(name for name in ward.files if name.startswith("ID_"))
    one, other = ward.next("exact-duplicates"), ward.next("exact copy")
    ward.picture(one, ward.gray(one))
    shutil.copy(ward.files[one], ward.files[other])
    one, other = ward.next("duplicates-other-label"), ward.next("its copy", positive=True)
    ward.planted["near-duplicates"] = one
    stored = pydicom.dcmread(ward.files[other])
    stored.PhotometricInterpretation, stored.BitsAllocated, stored.BitsStored, stored.HighBit = "MONOCHROME2", 8, 8, 7
    stored.PixelData = encapsulate([phantom_dicom.encode_jpeg(ward.gray(other), 40)])
    stored.save_as(ward.files[one])
    ward.planted["duplicates-other-patient"] = other
    shutil.copy(ward.files[test[0]], ward.files[ward.next("duplicates-in-test")])
    ward.drop("patients.csv", ward.next("patients-unknown"))
    patient = next(line.split(",")[1] for line in (ward.data / "patients.csv").read_text().splitlines()
                   if line.startswith(ward.negative[0]))  # fmt: skip
    ward.line("patients.csv", "elsewhere,77\n" + f"{test[1]},{patient}")
    ward.planted |= {"patients-not-here": "elsewhere", "patients-in-test": test[1]}


def plant_boxes(ward: Ward) -> None:
    box, empty = '"{""x"":9000,""y"":9000,""width"":10,""height"":10}"', '"{}"'
    table = "boundingbox_csv/original_boundingbox.csv"
    ward.line(table, f"{ward.next('boxes-outside')}.jpg,1,{empty},1,0,{box},{empty}")
    ward.line(table, f"{ward.next('boxes-without-region')}.jpg,1,{empty},1,0,{empty},{empty}")
    ward.line(table, f"{ward.next('boxes-unreadable')}.jpg,1,{empty},1,0,wrong,{empty}")
    ward.line(table, f"nobody.jpg,1,{empty},1,0,{box},{empty}")
    ward.planted["boxes-without-image"] = "nobody"


@pytest.fixture(scope="module")
def sick(clean, tmp_path_factory) -> tuple[DatasetReport, dict[str, str]]:
    """The report on the phantoms with all faults, and the image or place of each."""
    ward = Ward(clean, tmp_path_factory.mktemp("a ward") / "sick phantoms")
    for plant in (plant_tables, plant_masks, plant_headers, plant_pictures, plant_copies, plant_boxes):
        plant(ward)
    ward.close()
    return examined(ward.data), ward.planted


PLANTED = {
    "rows-without-image": "note", "samples-without-image": "warning", "images-in-both": "error",
    "same-name": "error", "copied-files": "note", "csv-dialect": "note", "bad-rle": "error", "rle-outside": "error",
    "overlapping-rows": "note", "contradicting-rows": "warning", "tiny-masks": "warning", "huge-masks": "warning",
    "several-rows": "note", "not-a-radiograph": "warning", "no-modality": "note", "other-body-part": "warning",
    "non-frontal": "warning", "burned-in": "warning", "no-age": "note", "bad-age": "note", "no-sex": "note",
    "no-view": "note", "unreadable": "warning", "rotated": "warning", "looks-inverted": "warning",
    "deep-monochrome1": "note", "blank": "warning", "unlike-the-rest": "note", "odd-size": "warning",
    "several-sizes": "note", "exact-duplicates": "note", "near-duplicates": "note",
    "duplicates-other-label": "warning", "duplicates-other-patient": "warning", "duplicates-in-test": "warning",
    "patients-unknown": "warning", "patients-not-here": "note", "patients-in-test": "warning",
    "boxes-outside": "error", "boxes-without-region": "note", "boxes-unreadable": "error",
    "boxes-without-image": "note",
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found(sick, kind):
    report, planted = sick
    (finding,) = [one for one in report.findings if one.id == kind]
    assert finding.severity == PLANTED[kind]
    assert any(planted[kind] in text for text in finding.examples), finding
    assert len(finding.examples) == min(finding.count, 5)


@pytest.mark.parametrize("kind", [
    "bad-rle", "tiny-masks", "unreadable", "rotated", "looks-inverted", "blank", "odd-size", "non-frontal",
    "patients-unknown", "duplicates-in-test", "same-name",
])  # fmt: skip
def test_nothing_else_is_taken_for_it(sick, kind):
    report, _ = sick
    assert [one.count for one in report.findings if one.id == kind] == [1]


def test_a_sick_set_cannot_run_before_its_errors_are_mended(sick):
    report, _ = sick
    assert report.exit_code == 3
    severities = [one.severity for one in report.findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)


def test_clean_phantoms_give_notes_only(clean):
    report = examined(clean)
    assert {one.severity for one in report.findings} == {"note"}, [one for one in report.findings]
    assert report.exit_code == 0
    assert report.counts["images"] == 96
    assert {"patients-known", "prevalence", "csv-dialect", "images-without-row"} <= {one.id for one in report.findings}


def test_every_kind_has_its_test():
    elsewhere = {"rows-unreadable", "table-unreadable", "no-images", "no-rows", "no-labelled-image", "one-class",
                 "no-boxes", "boxes-of-others", "patients-known", "prevalence", "monochrome1", "deep-gray",
                 "images-without-row"}  # fmt: skip
    assert load_catalogue().keys() == PLANTED.keys() | elsewhere


@pytest.mark.parametrize("page", ["README.md", "docs/data.md"])
def test_the_pages_count_them(page):
    (stated,) = re.findall(r"(\d+) kinds of findings", (ROOT / page).read_text(encoding="utf-8"))
    assert int(stated) == len(load_catalogue())
