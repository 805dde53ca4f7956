"""Whatever a file is or holds, prepare and the doctor go on, and say in one short line why it is left out."""

import os
import re
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from bench import damaged_dicoms, damages
from bench.small_dicoms import NAME, DicomFile, build_small_dicoms
from cxr import tables
from cxr.datasets import folder_scan, kaggle
from cxr.errors import DataError, UsageError
from cxr.imaging import bounded_reading, grayscale, refusal
from cxr.imaging.dicom import ImageError
from cxr.paths import Paths
from datatools.doctor.examine import examine_dataset
from prepare.letterboxed_arrays import PrepareTask, RowError, RowFile, parse_age, prepare_image
from prepare.steps import PrepareConfig, prepare_data

SIZE = 32
KINDS = {file.name: file for file in build_small_dicoms()}


def rejected(data: Path) -> dict[str, str]:
    """The reasons of rejected.csv after a whole prepare."""
    paths = Paths(data, "recipe", SIZE)
    prepare_data(paths, PrepareConfig(size=SIZE, folds=2, subfolds=2), workers=1)
    table = tables.read_table(paths.prepared_folder / "rejected.csv", tables.REJECTED, "prepare")
    return dict(zip(table["path"], table["reason"], strict=True))


def refused(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        grayscale.read_radiograph(path)
    reason = str(caught.value)
    assert 0 < len(reason) <= 200
    assert "\n" not in reason
    assert "SECRET" not in reason.upper()
    return reason


def written(tmp_path: Path, file: DicomFile | bytes) -> Path:
    path = tmp_path / "image.dcm"
    path.write_bytes(file if isinstance(file, bytes) else file.file_bytes)
    return path


# --- rows --------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path) -> RowFile:
    found = RowFile(tmp_path / "pixels.npy", (8, 8))
    found.allocate_file(3)
    return found


@pytest.mark.parametrize("values", [
    np.ones((8, 8), np.uint16), np.ones((8, 8), np.int8), np.ones((8, 8), bool), np.ones((8, 8)), np.ones((8, 9), "u1"),
    np.ones((4, 8), "u1"), np.ones(64, "u1"), np.ones((1, 8, 8), "u1"), np.ones((8, 8), object),
], ids=lambda values: f"{values.dtype} {values.shape}")  # fmt: skip
def test_a_writer_of_rows_refuses_all_but_its_own(rows, values):
    before = rows.path.read_bytes()
    with pytest.raises(RowError):
        rows.write_row(1, values)
    assert rows.path.read_bytes() == before


@pytest.mark.parametrize("row", [-1, 3, 4])
def test_a_writer_of_rows_refuses_places_that_are_not_there(rows, row):
    before = rows.path.read_bytes()
    with pytest.raises(RowError):
        rows.write_row(row, np.ones((8, 8), np.uint8))
    assert rows.path.read_bytes() == before


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_picture_of_another_type_is_the_files_reason(rows, dicom, tmp_path, monkeypatch, dtype):
    path = dicom.save(dicom.dataset(np.ones((8, 8), np.uint8)), tmp_path / "image.dcm")
    monkeypatch.setattr(grayscale, "render_gray", lambda *_: np.ones((8, 8), dtype))
    found = prepare_image(PrepareTask("image", path, None, rows, 1, rows, -1))
    assert "uint8 of (8, 8), not" in found
    assert not np.load(rows.path).any()


# --- what lies in the folder -------------------------------------------------------------------


def test_what_is_no_file_is_named_and_the_run_goes_on(kaggle_folder, monkeypatch, capsys):
    data = kaggle_folder()
    folder = data / "dicom-images-train"
    os.mkfifo(folder / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)  # the path of a socket is short
        server.bind("socket.dcm")
        (folder / "dangling.dcm").symlink_to(folder / "nothing")
        (folder / "itself.dcm").symlink_to("itself.dcm")
        (folder / "circle").symlink_to(folder)
        (folder / "lost").symlink_to(folder / "nowhere")
        os.mkfifo(data / "pipe.csv")
        Path(os.fsdecode(os.fsencode(folder) + b"/M\xfcller.dcm")).write_bytes(b"x")
        os.mkdir(os.fsencode(folder) + b"/\xff")
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff/inside.dcm")).write_bytes(b"x")
        (folder / "a folder.dcm").mkdir()
        reasons = rejected(data)
        report = examine_dataset(data, workers=1)
    assert reasons == {
        "dicom-images-train/M\\udcfcller.dcm": "its path is not UTF-8 text: rename the file or its folder",
        "dicom-images-train/\\udcff/inside.dcm": "its path is not UTF-8 text: rename the file or its folder",
        "dicom-images-train/dangling.dcm": "a link to nothing",
        "dicom-images-train/itself.dcm": "Too many levels of symbolic links",
        "dicom-images-train/pipe.dcm": "not a regular file", "dicom-images-train/socket.dcm": "not a regular file",
    }  # fmt: skip
    said = capsys.readouterr().out
    for words in ("circle (a link to a folder that is looked at already)", "lost (a link to nothing)",
                  "pipe.csv (not a regular file)"):  # fmt: skip
        assert f"{words}\n" in said
    (finding,) = [each for each in report.findings if each.id == "unreadable"]
    assert finding.count == 8
    assert report.exit_code == 4


def test_what_may_not_be_read_is_named(kaggle_folder, monkeypatch, capsys):
    data = kaggle_folder()
    access, scandir = os.access, os.scandir

    def scan(folder):
        if str(folder).endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    (data / "lost+found").mkdir()
    monkeypatch.setattr(folder_scan.os, "scandir", scan)
    monkeypatch.setattr(folder_scan.os, "access", lambda path, mode: "1.2.3" not in str(path) and access(path, mode))
    assert rejected(data) == {"dicom-images-train/3/3/1.2.3.dcm": "Permission denied"}
    message = capsys.readouterr().out
    assert "passed over: lost+found/ (Permission denied)\n" in message
    assert "have no DICOM file" not in message
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        kaggle.find_layout(data / "lost+found")


def test_a_mended_file_is_seen(kaggle_folder):
    data = kaggle_folder()
    link = data / "dicom-images-train" / "late.dcm"
    link.symlink_to(data / "late")
    before = kaggle.find_layout(data).files_digest
    (data / "late").write_bytes(b"there")
    assert kaggle.find_layout(data).files_digest != before


def test_nothing_but_what_cannot_be_opened(kaggle_folder, tmp_path):
    data = kaggle_folder(patients=2)
    for path in list(data.rglob("*.dcm")):
        path.unlink()
        path.symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"no DICOM file \(\*\.dcm\) that can be opened; .*a link to nothing"):
        rejected(data)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.dcm")
    assert "not a regular file" in refused(tmp_path / "pipe.dcm")


@pytest.mark.parametrize("table", ["sample_submission.csv", "patients.csv"])
def test_the_doctor_survives_tables_that_cannot_be_opened(kaggle_folder, monkeypatch, table):
    data = kaggle_folder()
    read_bytes = Path.read_bytes

    def fail(path):
        if path.name == table:
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    layout = kaggle.find_layout(data)
    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr(kaggle, "find_layout", lambda _: layout)
    (finding,) = [each for each in examine_dataset(data, workers=1).findings if each.id == "table-unreadable"]
    assert re.search(rf"{table} cannot be read: Permission denied", finding.examples[0])


# --- headers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000 + "Y", "-1Y", "1e3Y", "٣٣Y" * 9])
def test_ages_beyond_measure_are_unknown(text):
    assert parse_age(text) is None


@pytest.mark.parametrize("value", ["SECRET^NAME", "S" * 17, "9" * 400, "a\x00b", "né"])
@pytest.mark.parametrize("name", ["PatientAge", "ViewPosition", "PatientSex"])
def test_what_is_no_code_is_nobodys_trait(rows, dicom, tmp_path, name, value):
    header = dicom.dataset(np.ones((8, 8), np.uint8), **{name: value}, SpecificCharacterSet="ISO_IR 100")
    header[name].VR = "LO"
    facts = prepare_image(PrepareTask("x", dicom.save(header, tmp_path / "x.dcm"), None, rows, 1, rows, -1))
    assert facts._asdict()[{"PatientAge": "age", "ViewPosition": "view", "PatientSex": "sex"}[name]] is None


@pytest.mark.parametrize(("name", "shown"), [
    ("Modality", "modality (not shown)"), ("PhotometricInterpretation", "colour image ((not shown), 1"),
])  # fmt: skip
@pytest.mark.parametrize("value", ["SECRET^NAME", "SECRET NAME IS LONGER THAN A CODE"])
def test_reasons_quote_codes_alone(dicom, tmp_path, name, shown, value):
    header = dicom.dataset(np.ones((8, 8), np.uint8), **{name: value})
    assert shown in refused(dicom.save(header, tmp_path / "x.dcm"))


@pytest.mark.parametrize("syntax", ["1.2.826.0.1.3680043.8.498.1234", NAME])
def test_unknown_syntaxes_are_not_quoted(dicom, tmp_path, syntax):
    path = dicom.save(dicom.dataset(np.ones((8, 8), np.uint8)), tmp_path / "x.dcm")
    old, new = uid.ExplicitVRLittleEndian.encode(), syntax.encode()
    content = path.read_bytes()
    place = content.index(old) - 2
    value = new + b"\0" * (len(new) % 2)
    path.write_bytes(content[:place] + struct.pack("<H", len(value)) + value + content[place + 22 :])
    assert "its transfer syntax (not shown) is not supported" in refused(path)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("tag", [0x00080060, 0x00101010, 0x00280004, 0x00280010, 0x00280100, 0x00281050])
def test_a_damaged_length_gives_a_short_reason_or_the_picture(tmp_path, kind, tag):
    file = KINDS[kind]
    place, form = file.find_length_field(tag)
    for length in (1, 3, 31_000, 0xFFFF if form == "H" else 0xFFFFFFF0):
        path = written(tmp_path, file.with_bytes(place, struct.pack(file.byte_order + form, length)))
        try:
            grayscale.read_radiograph(path)
        except ImageError:
            refused(path)


def test_no_exceptions_text_is_quoted():
    secrets = [ValueError(NAME), KeyError(NAME), OSError(NAME), OSError(2, NAME, NAME), RuntimeError(NAME),
               UnicodeDecodeError("utf-8", NAME.encode(), 0, 1, NAME), MemoryError(NAME), Exception(NAME)]  # fmt: skip
    for error in secrets:
        with pytest.raises(ImageError) as caught, refusal.raise_as_image_error("it"):
            raise error
        assert re.fullmatch(r"it: [\w ,]+", str(caught.value))
        assert NAME not in str(caught.value)


# --- memory and time ---------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(60000, 60000), (128, 256), (1, 1), (128, 128 + 65536)])
def test_a_jpeg_2000_of_another_size_is_not_decoded(tmp_path, rows, columns):
    file = KINDS["jpeg 2000"]
    place = file.body.index(b"\xff\x4f\xff\x51") + 8
    path = written(tmp_path, file.with_bytes(place, struct.pack(">2L", columns, rows)))
    assert f"JPEG 2000 of {columns} x {rows}" in refused(path)


@pytest.mark.parametrize("length", [0, 1, 7, 5000])
def test_damaged_boxes_of_a_jp2_file_end(dicom, tmp_path, length):
    stream = KINDS["jpeg 2000"].body
    stream = stream[stream.index(b"\xff\x4f\xff\x51") :]
    frame = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">L", length) + b"ftyp" + stream
    header = dicom.dataset(np.ones((128, 128), np.uint16))
    header.PixelData, header.file_meta.TransferSyntaxUID = encapsulate([frame]), uid.JPEG2000Lossless
    header["PixelData"].is_undefined_length, header["PixelData"].VR = True, "OB"
    assert "no JPEG 2000 code stream" in refused(dicom.save(header, tmp_path / "x.dcm"))


def outcome(tmp_path: Path, rows: RowFile, content: DicomFile | bytes) -> damaged_dicoms.Outcome:
    return damaged_dicoms.prepare_in_child(
        PrepareTask("x", written(tmp_path, content), None, rows, 0, rows, -1), "", ""
    )


@pytest.fixture(scope="module")
def bombs() -> dict[str, DicomFile | bytes]:
    """Files that would take gigabytes or minutes."""
    random, deflated = np.random.default_rng(0), KINDS["deflated"]
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    zeros = b"".join(packer.compress(bytes(1 << 24)) for _ in range(20)) + packer.flush()
    return {
        "precincts": damages.shrink_precincts(KINDS["jpeg 2000"], Draws(5600)), "deflated zeros": deflated.meta + zeros,
        "elements": damages.multiply_elements(KINDS["8 bits"], Draws(1)),
        "sequences": damages.multiply_elements(KINDS["8 bits"], Draws(0)),
        "a wall": damages.declare_size(KINDS["jpeg 2000"], random),
    }  # fmt: skip


class Draws:
    """A generator that always draws the same."""

    def __init__(self, value: int) -> None:
        self.choice = self.integers = lambda *_: value


@pytest.mark.parametrize("name", ["precincts", "deflated zeros", "elements", "sequences", "a wall"])
def test_bombs_take_neither_memory_nor_time(rows, bombs, tmp_path, name):
    held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20  # by a child, too
    found = outcome(tmp_path, rows, bombs[name])
    assert found.verdict == "refused", found
    assert found.megabytes - held < 900, found
    assert found.seconds < 5, found


def test_a_round_of_every_other_damage_holds(tmp_path):
    kinds = [
        damage for damage in damages.DAMAGES if damage not in (damages.plant_deflate_bomb, damages.multiply_elements)
    ]
    outcomes = list(
        damaged_dicoms.run_trials(tmp_path / "data", damages.generate_damaged_files(9 * len(kinds), 7, kinds))
    )
    assert {each.verdict for each in outcomes} == {"read", "refused"}
    assert not [each for each in outcomes if len(each.reason) > 200 or NAME in each.reason or "\n" in each.reason]


def test_what_is_inflated_has_an_end():
    zeros = bytes(1 << 20)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(zeros) + packer.flush()
    assert bounded_reading.inflate_data(packed) == zeros
    for damaged in (packed[:-20], b""):
        with pytest.raises(ImageError, match="ends early"):
            bounded_reading.inflate_data(damaged)


def test_the_memory_limit_ends_with_its_block():
    before = refusal.resource.getrlimit(refusal.resource.RLIMIT_AS)
    with pytest.raises(ImageError, match="too much memory"), refusal.limit_memory(), refusal.raise_as_image_error("it"):
        np.empty(2 * refusal.MAX_EXTRA_MEMORY, np.uint8)
    assert refusal.resource.getrlimit(refusal.resource.RLIMIT_AS) == before
