"""The Kaggle layout: which file is what, both dialects, and words for what is wrong."""

import os

import pytest

from cxr.datasets import kaggle
from cxr.errors import DataError, UsageError


@pytest.fixture
def write(tmp_path):
    """Write files of the given texts below a data folder; returns the folder."""

    def files(**texts):
        for name, text in texts.items():
            path = tmp_path / "data" / name.replace("__", "/")
            path = path.with_name(path.name.replace("_csv", ".csv").replace("_dcm", ".dcm"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "data"

    return files


ROWS = "ImageId,EncodedPixels\na,1 2\n"


@pytest.mark.parametrize("text", [
    "ImageId,EncodedPixels\na,1 2\nb,-1\na,5 6\n", "ImageId, EncodedPixels\na, 1 2\nb, -1\na, 5 6\n",
    "\ufeffImageId, EncodedPixels\r\na, 1 2\r\nb, -1\r\n\r\na, 5 6",
    "EncodedPixels,extra,imageid\n1 2,,a\n-1,,b\n5 6,x,a.dcm\n",
])  # fmt: skip
def test_both_dialects(write, text):
    rows = kaggle.find_layout(write(train_rle_csv="")).data
    (rows / "train-rle.csv").write_bytes(text.encode())
    found = kaggle.find_layout(rows).read_mask_rows()
    assert {name: [row.code for row in group] for name, group in found.items()} == {"a": ["1 2", "5 6"], "b": ["-1"]}


def test_rows_know_their_line(write):
    found = kaggle.find_layout(write(train_csv="ImageId,EncodedPixels\n\na,1 2\nb,-1\n")).read_mask_rows()
    assert [found[name][0].line for name in "ab"] == [3, 4]


@pytest.mark.parametrize(("files", "chosen"), [
    ({"train-rle.csv": ROWS, "other-rle.csv": ROWS}, "train-rle.csv"),
    ({"train-rle.csv": ROWS, "stage_2_train.csv": ROWS}, "stage_2_train.csv"),
    ({"deep/down/my_train_masks.csv": ROWS, "train_boxes.csv": "Filename,xmin\n"}, "my_train_masks.csv"),
    ({"train-rle.csv": ROWS, "old/train-rle.csv": ROWS}, "train-rle.csv"),
    ({"test-rle.csv": ROWS, "sample_submission.csv": ROWS}, None),
])  # fmt: skip
def test_which_csv_holds_the_rows(tmp_path, files, chosen):
    for name, text in files.items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(text)
    found = kaggle.find_layout(tmp_path / "d").rows_csv
    assert (found and found.name) == chosen
    assert found is None or "old" not in found.parts


def test_two_csvs_that_could_be_it(write):
    with pytest.raises(DataError, match=r"which one holds ImageId, EncodedPixels\? .*one-rle.csv or .*two-rle.csv"):
        kaggle.find_layout(write(**{"one-rle_csv": ROWS, "two-rle_csv": ROWS}))


@pytest.mark.parametrize("name", ["sample_submission.csv", "stage_2_sample_submission.csv", "My_sample_submission.csv"])
def test_sample_submission_in_its_order(tmp_path, name):
    (tmp_path / name).write_text("ImageId,EncodedPixels\nz,-1\na,-1\nm,-1\n")
    assert kaggle.find_layout(tmp_path).read_sample_ids() == ["z", "a", "m"]


@pytest.mark.parametrize(("text", "message"), [
    ("ImageId;Pixels\na;1 2\n", r"line 1: expected the columns ImageId, EncodedPixels, found 'ImageId, Pixels'"),
    ("ImageId,EncodedPixels\na,b,-1\n", "line 2: has 3 columns, the header 2: put a cell that holds ',' into quotes"),
    ('ImageId,EncodedPixels\n"a,-1\nb,-1\n', "after line 3: not a CSV"),
    ("ImageId,EncodedPixels\na," + "1 2 " * 8191 + "1 2\n", "line 2: .* it was cut"),  # 32,767 characters
    ("", "line 1: expected the columns"), ("ImageId,EncodedPixels\na,1 2\nb\n", r"line 3: has 1 of 2 columns"),
    ("ImageId,EncodedPixels\n,1 2\n", "line 2: names no image"),
])  # fmt: skip
def test_damaged_rows_name_file_and_line(write, text, message):
    layout = kaggle.find_layout(write(**{"train-rle_csv": text}))
    with pytest.raises(DataError, match=f"train-rle.csv, {message}"):
        layout.read_mask_rows()


def test_no_rows_at_all(write):
    with pytest.raises(DataError, match=r"has no mask rows: expected train-rle.csv or stage_2_train.csv"):
        kaggle.find_layout(write(a_dcm="")).read_mask_rows()


def test_no_data_folder(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        kaggle.find_layout(tmp_path / "nothing")


def test_patients(write):
    layout = kaggle.find_layout(write(patients_csv="ImageId,patient\na,7\nb.dcm,7.0\nc,\n"))
    assert layout.read_patients() == {"a": "7", "b": "7"}
    with pytest.raises(DataError, match=r"patients.csv, line 3: image a has a second patient"):
        kaggle.find_layout(write(patients_csv="ImageId,patient\na,7\na,8\n")).read_patients()


@pytest.mark.parametrize("value", [
    "nan", "NaN", "none", "NULL", "na", "N/A", "#N/A", "<NA>", "-", "--", "?", "unknown", "Anonymous", "anonymized",
    "0", "0000", "0.0", "-1", "-1.0", "NaT", "missing", " ", ".",
])  # fmt: skip
def test_a_placeholder_is_no_patient(write, value):
    layout = kaggle.find_layout(
        write(patients_csv=f"ImageId,patient\na,{value}\nb,{value}\nc,00000100\nd,Nancy\ne,10\n")
    )
    assert layout.read_patients() == {"c": "00000100", "d": "Nancy", "e": "10"}
    told = value.removesuffix(".0") if value != "." else value
    assert layout.count_placeholders() == ({told: 2} if value.strip() else {})


@pytest.mark.parametrize(("cells", "known"), [
    ("0 1 1 2 0 2", True), ("0.0 1.0 2.0 3.0 4.0 5.0", True), ("0000 0001 0002 0002 0003 0004", True),
    ("0 1 3 4 3 4", True),
    ("0 0 0 1 2 3", False), ("0 13 27 13 4010 7", False), ("0 p1 p2 p2 p1 p3", False), ("0000 1 2 3 4 5", False),
    ("0 0 0 0 0 0", False), ("0 0001 0002 0002 0003 0004", False), ("-1 1 2 2 3 4", False),
])  # fmt: skip
def test_a_nought_among_numbers_from_nought_is_a_patient(write, cells, known):
    rows = "".join(f"{name},{cell}\n" for name, cell in zip("abcdef", cells.split(), strict=True))
    assert ("a" in kaggle.find_layout(write(patients_csv="ImageId,patient\n" + rows)).read_patients()) == known


def test_chest_tubes(tmp_path):
    path = tmp_path / "chest_tubes.csv"
    path.write_text("ImageId;chest_tube\na.dcm;1.0\nb;0.0\nc;\nd;nan\n")
    assert kaggle.read_chest_tubes(path) == {"a": 1.0, "b": 0.0}
    path.write_text("ImageId,chest_tube\na,1\nb,maybe\n")
    with pytest.raises(DataError, match=r"chest_tubes\.csv, line 3: chest_tube of image b is 'maybe'"):
        kaggle.read_chest_tubes(path)


def test_files_at_any_depth_but_not_hidden_ones(write):
    data = write(a_dcm="a", x__y__z__b_dcm="b", xy__c_dcm="c")
    (data / "x" / "._b.dcm").write_text("resource fork")
    (data / ".cache").mkdir()
    (data / ".cache" / "d.dcm").write_text("d")
    (data / "x" / "E.DCM").write_text("e")
    assert set(kaggle.find_layout(data).files_by_id) == {"a", "b", "c", "E"}


def test_links_are_followed_but_not_in_circles(write, tmp_path):
    data = write(x__a_dcm="a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.dcm").write_text("b")
    (data / "link").symlink_to(tmp_path / "elsewhere")
    (data / "x" / "circle").symlink_to(data)
    assert set(kaggle.find_layout(data).files_by_id) == {"a", "b"}


def test_the_same_image_twice(write):
    layout = kaggle.find_layout(write(x__a_dcm="same", y__a_dcm="same"))
    assert layout.files_by_id["a"].path == "x/a.dcm"
    layout = kaggle.find_layout(write(x__a_dcm="one!", y__a_dcm="two!"))
    with pytest.raises(DataError, match=r"two different files are named a.dcm: x/a.dcm and y/a.dcm"):
        _ = layout.files_by_id


@pytest.mark.parametrize(("path", "rows", "samples", "expected"), [
    ("dicom-images-test/a.dcm", {"a"}, {"b"}, "train"), ("dicom-images-train/a.dcm", set(), {"a"}, "test"),
    ("dicom-images-test/a.dcm", {"b"}, {"b"}, "unlabelled"), ("dicom-images-test/x/a.dcm", set(), set(), "test"),
    ("dicom-images-train/a.dcm", set(), set(), "unlabelled"), ("test.dcm", set(), set(), "unlabelled"),
    ("siim-train-test/a.dcm", set(), set(), "unlabelled"), ("latest/contest/a.dcm", set(), set(), "unlabelled"),
    ("retest of 2019/a.dcm", set(), set(), "unlabelled"), ("test-hospital/a.dcm", set(), set(), "unlabelled"),
    ("Test/a.dcm", set(), set(), "test"), ("x/stage_2_test_images/a.dcm", set(), set(), "test"),
    ("test/dicom-images-train/1/a.dcm", set(), set(), "unlabelled"), ("stage2_test/a.dcm", set(), set(), "test"),
    ("dicom_images_test_1024/a.dcm", set(), set(), "test"), ("test3d hospital/a.dcm", set(), set(), "unlabelled"),
])  # fmt: skip
def test_rows_decide_the_split_and_not_the_folder(path, rows, samples, expected):
    rows = {name: [kaggle.MaskRow(2, "-1")] for name in rows}
    assert kaggle.assign_split("a", kaggle.File(path, 1, 1), rows, samples) == expected


def test_an_image_in_both_splits():
    with pytest.raises(DataError, match=r"image a has a mask row \(line 5\) and is in the sample submission"):
        kaggle.assign_split("a", kaggle.File("a.dcm", 1, 1), {"a": [kaggle.MaskRow(5, "-1")]}, {"a"})


def test_digest_sees_names_sizes_and_times(write):
    data = write(a_dcm="a", b_dcm="b")
    digests = {kaggle.find_layout(data).files_digest}
    for change in (lambda: os.utime(data / "a.dcm", ns=(1, 1)), lambda: write(a_dcm="aa"),
                   lambda: (data / "a.dcm").rename(data / "c.dcm"), lambda: (data / "b.dcm").unlink()):  # fmt: skip
        change()
        digests.add(kaggle.find_layout(data).files_digest)
    assert len(digests) == 5
    write(**{"train-rle_csv": ROWS})
    assert kaggle.find_layout(data).files_digest in digests


def test_real_layout(real):
    layout = kaggle.find_layout(real)
    rows, samples = layout.read_mask_rows(), layout.read_sample_ids()
    assert (layout.rows_csv.name, layout.patients_csv.name) == ("train-rle.csv", "patients.csv")
    assert (sum(map(len, rows.values())), len(samples), len(layout.read_patients())) == (346, 167, 316)
    splits = [kaggle.assign_split(name, file, rows, set(samples)) for name, file in layout.files_by_id.items()]
    assert (splits.count("train"), splits.count("test")) == (313, 167)
