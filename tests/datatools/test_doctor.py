"""The doctor's command: exit codes, the three forms of the report, and data that nothing can be trained on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxr.errors import UsageError
from cxr.files import write_json
from cxr.imaging import rle
from cxr.paths import ROOT
from datatools.doctor import __main__ as command
from datatools.doctor import box_checks, image_checks, image_scan, patient_checks, table_checks
from datatools.doctor.examine import DatasetReport, examine_dataset
from datatools.doctor.findings import compute_exit_code, report_finding
from datatools.doctor.report import format_report, render_page
from evaluation import subgroups


def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "datatools.doctor", *map(str, arguments), "--workers", "1"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
                          env=os.environ | environment)  # fmt: skip


def ids(report: DatasetReport) -> dict[str, int]:
    return {one.id: one.count for one in report.findings}


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count
    path.write_text(text)


# --- the command -------------------------------------------------------------------------------


def test_the_command_writes_what_it_prints(kaggle_folder, home, tmp_path):
    data = kaggle_folder().rename(tmp_path / "my data <1>")
    edit(data / "train-rle.csv", r"^1\.2\.0, .*", "1.2.0, 5 5 5")
    done = call(data)
    assert done.returncode == 3, done.stderr
    folder = home / "artifacts" / data.name
    found = json.loads((folder / "doctor.json").read_text())
    assert found["exit_code"] == 3
    assert "nothing can be trained before the errors are mended: a run stops at them" in found["summary"]
    assert found["counts"] == {"images": 20, "usable": 20, "labelled": 16, "with_pneumothorax": 8, "unlabelled": 1,
                               "test": 3}  # fmt: skip
    (bad,) = [one for one in found["findings"] if one["id"] == "bad-rle"]
    assert bad["severity"] == "error"
    assert bad["examples"] == ["1.2.0: train-rle.csv, line 2: has an odd count of numbers (3)"]
    page = (folder / "doctor.html").read_text()
    for one in found["findings"]:
        assert f"{one['id']} ({one['count']}): " in done.stdout
        assert one["id"] in page
    assert found["summary"] in done.stdout
    assert found["summary"] in page
    brief = call(data, "--brief").stdout.splitlines()
    assert brief[0].startswith("error    bad-rle (1): ")
    assert not any(line.startswith("note") for line in brief)
    assert brief[-2] == found["summary"]


def test_a_page_is_whole_and_escaped(kaggle_folder, tmp_path):
    data = kaggle_folder().rename(tmp_path / "my data <1>")
    page = render_page(examine_dataset(data, workers=1))
    assert "my data &lt;1&gt;" in page
    assert "<1>" not in page
    assert not re.search(r"https?://|src=\"(?!data:)|<link|@import", page)
    assert 'src="data:image/jpeg;base64,' in page  # of an example: the images are tiny
    assert 'name="viewport"' in page


def test_no_patient_is_named(kaggle_folder):
    data = kaggle_folder()
    patients = data / "patients.csv"
    patients.write_text(re.sub(r",p(\d)", r",secret-\1", patients.read_text()))
    report = examine_dataset(data, workers=1)
    text = format_report(report) + render_page(report) + repr(report)
    assert "patients-known" in text
    assert not re.search("secret", text, re.IGNORECASE)  # the DICOMs' names and ids say so, too


def test_without_a_folder_the_environments_is_taken(kaggle_folder):
    assert "20 images" in call(DATA=str(kaggle_folder())).stdout


def test_no_such_folder(tmp_path):
    done = call(tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere does not exist" in done.stderr


# --- nothing can be trained --------------------------------------------------------------------


def unusable(data: Path, kind: str) -> None:
    report = examine_dataset(data, workers=1)
    assert kind in ids(report)
    assert report.exit_code == 3


def test_no_images_and_no_rows(tmp_path):
    report = examine_dataset(tmp_path, workers=1)
    assert {"no-images", "no-rows", "no-boxes"} <= ids(report).keys()
    assert report.exit_code == 3


def test_rows_that_cannot_be_read(kaggle_folder):
    data = kaggle_folder()
    edit(data / "train-rle.csv", r"^1\.2\.3, .*", "1.2.3")
    unusable(data, "rows-unreadable")


def test_rows_of_other_images(kaggle_folder):
    data = kaggle_folder()
    (data / "train-rle.csv").write_text("ImageId,EncodedPixels\nsomebody,-1\n")
    unusable(data, "no-labelled-image")


def test_one_class_only(kaggle_folder):
    data = kaggle_folder()
    rows = (data / "train-rle.csv").read_text().splitlines()
    (data / "train-rle.csv").write_text("\n".join(row for row in rows if "Id" in row or row.endswith(" -1")))
    unusable(data, "one-class")


def test_an_image_of_two_patients(kaggle_folder):
    data = kaggle_folder()
    with open(data / "patients.csv", "a") as handle:
        handle.write("1.2.0,somebody\n")
    unusable(data, "table-unreadable")


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_chest_tubes_that_cannot_be_read(kaggle_folder, value):
    """Stage 3 would stop at them, after hours."""
    data = kaggle_folder()
    (data / "chest_tubes.csv").write_text("ImageId,chest_tube\n1.2.0,1\n")
    assert "table-unreadable" not in ids(examine_dataset(data, workers=1))
    (data / "chest_tubes.csv").write_text(f"ImageId,chest_tube\n1.2.0,{value}\n")
    unusable(data, "table-unreadable")


# --- two folders of one name --------------------------------------------------------------------


@pytest.mark.parametrize("note", ["source.json", "doctor.json"])
def test_another_folder_of_the_same_name_is_refused(tmp_path, home, note, monkeypatch):
    other, data = tmp_path / "a" / "mine", tmp_path / "b" / "mine"
    other.mkdir(parents=True)
    data.mkdir(parents=True)
    write_json(home / "artifacts" / "mine" / note, {"data": str(other)})
    done = call(data)
    assert done.returncode == 2
    assert f"is of {other}, a folder of the same name" in done.stderr
    assert "--out" in done.stderr
    assert not (home / "artifacts" / "mine" / "doctor.html").exists()
    assert command.require_same_dataset(home / "artifacts" / "mine", other) == home / "artifacts" / "mine"
    assert call(data, "--out", tmp_path / "elsewhere").returncode == 3
    assert (tmp_path / "elsewhere" / "doctor.json").is_file()
    other.rmdir()
    assert command.require_same_dataset(home / "artifacts" / "mine", data)  # moved, not another


def test_a_run_of_this_folder_goes_before_an_earlier_look_at_another(tmp_path):
    (tmp_path / "other").mkdir()
    write_json(tmp_path / "source.json", {"data": str(tmp_path)})
    write_json(tmp_path / "doctor.json", {"data": str(tmp_path / "other")})
    assert command.require_same_dataset(tmp_path, tmp_path) == tmp_path
    (tmp_path / "source.json").write_text("[1]")
    with pytest.raises(UsageError):
        command.require_same_dataset(tmp_path, tmp_path)


# --- single checks -----------------------------------------------------------------------------


@pytest.mark.parametrize(("severities", "code"), [([], 0), (["note"], 0), (["note", "warning"], 4), (["error"], 4)])
def test_exit_codes(severities, code):
    kind = {"note": "no-age", "warning": "blank", "error": "boxes-outside"}
    assert compute_exit_code([one for severity in severities for one in report_finding(kind[severity], ["x"])]) == code


@pytest.mark.parametrize(("lost", "severity"), [(1, "note"), (10, "note"), (11, "warning")])
def test_many_rows_without_image_are_a_warning(lost, severity):
    (finding,) = report_finding("rows-without-image", [str(n) for n in range(lost)], 1000, table="t")
    assert (finding.severity, finding.count, len(finding.examples)) == (severity, lost, min(lost, 5))


@pytest.mark.parametrize(("start", "words"), [
    (b"ImageId,EncodedPixels\na,-1\n", "plain"),
    (b"ImageId, EncodedPixels\r\na, -1\r\n", "a blank before names, a blank before values, Windows line ends"),
    (b'\xef\xbb\xbfImageId,"EncodedPixels"\na,-1\n', "a byte-order mark, quoted cells"),
])  # fmt: skip
def test_dialects(start, words):
    assert table_checks.describe_dialect(start) == words


@pytest.mark.parametrize("seed", range(20))
def test_area_and_overlap_are_those_of_the_pixels(seed):
    random = np.random.default_rng(seed)
    rows = random.random((3, 20, 30)) < 0.3
    codes = tuple(image_scan.MaskRow(k, rle.encode_mask(row)) for k, row in enumerate(rows))
    found = image_scan._read_mask_facts(codes, 600)
    assert found == {"area": rows.any(axis=0).sum(), "overlap": rows.sum() - rows.any(axis=0).sum(), "bad_rows": (),
                     "rows_outside": ()}  # fmt: skip


def test_a_turned_picture_fits_the_turned_mean():
    random = np.random.default_rng(0)
    base = np.linspace(0, 200, 32 * 32).reshape(32, 32) + np.linspace(0, 90, 32)
    each = np.stack([base + random.normal(0, 20, (32, 32)) for _ in range(40)])
    for k in range(4):
        each[k] = np.rot90(each[k], k)
    assert image_checks.correlate_with_mean(each).argmax(axis=1).tolist() == [0, 1, 2, 3] + [0] * 36


@pytest.mark.parametrize(("text", "faults"), [
    ("Filename,xmin,xmax,ymin,ymax\na.png,1,2,3,4\nb.png,2,1,3,4\nc.png,1,,3,4\n", ["row 3", "row 4"]),
    ("Filename,xmin,xmax,ymin,ymax\na.png,1,nan,3,4\n", ["row 2"]), ("name,box\na,1\n", ["is no file of boxes"]),
    ('filename,region_shape_attributes\na.jpg,{}\nb.jpg,"{""x"":1}"\n', ["row 3"]),
])  # fmt: skip
def test_rows_that_are_no_boxes(tmp_path, text, faults):
    path = tmp_path / "original_boundingbox.csv"
    path.write_text(text)
    found = [f"{row.location} {row.fault}" for row in box_checks.read_box_rows(path) if row.fault]
    assert len(found) == len(faults)
    assert all(fault in line for fault, line in zip(faults, found, strict=True))


@pytest.mark.parametrize("years", [0, 17.9, 18, 39, 40, 64.5, 65, 120])
def test_ages_are_those_of_the_panel(years):
    material = SimpleNamespace(usable_scans={"a": image_scan.ImageScan(years=years)}, labels={"a": True})
    (row,) = [row for row in patient_checks.measure_prevalence(material) if row["by"] == "age"]
    cases = pd.DataFrame({"view": "", "sex": "", "age": [float(years)], "share": [0.1], "label": [1.0]})
    assert [row["group"]] == list(subgroups.group_cases(cases)["age"])


def test_boxes_of_other_images(kaggle_folder):
    data = kaggle_folder()
    (data / "original_boundingbox.csv").write_text("Filename,xmin,xmax,ymin,ymax\nsomebody.png,1,9,1,9\n")
    assert ids(examine_dataset(data, workers=1))["boxes-of-others"] == 1


# --- real radiographs --------------------------------------------------------------------------


def test_real_radiographs(real):
    report = examine_dataset(real)
    known = {"rows-without-image": 1, "tiny-masks": 1, "not-a-radiograph": 16, "unreadable": 4, "several-rows": 26}
    assert known.items() <= ids(report).items()
    assert not {"rotated", "looks-inverted", "blank", "bad-rle", "rle-outside"} & ids(report).keys()
    assert report.exit_code == 4
