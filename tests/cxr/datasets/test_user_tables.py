"""Tables as spreadsheets save them, and the ids in them: read, or refused with what to do."""

import pytest

from cxr.datasets import user_tables
from cxr.datasets.image_ids import match_image_id, parse_image_id
from cxr.errors import DataError

TEXT = "ImageId,EncodedPixels\nhåkan.dcm,1 2\n\nb,-1\n"
ROWS = [(1, ["ImageId", "EncodedPixels"]), (2, ["håkan.dcm", "1 2"]), (4, ["b", "-1"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", ",;\t|")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_encoding_separator_and_line_end(tmp_path, encoding, separator, end):
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.replace(",", separator).replace("\n", end).encode(encoding))
    assert list(user_tables.read_lines(path)) == ROWS


@pytest.mark.parametrize("text", [
    'sep=;\na;b\n1;"x;y"\n', "a;b;;\n1;x;y;;\n".replace("x;y", '"x;y"'), '"a;b"\n"1;""x;y"""\n', "a;b\n1;'x;y'\n",
])  # fmt: skip
def test_what_excel_adds(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    if "'" in text:
        with pytest.raises(DataError, match=r"t\.csv, line 2: has 3 columns, the header 2: put a cell that holds ';'"):
            list(user_tables.read_records(tmp_path / "t.csv"))
        return
    assert [{name: row[name] for name in "ab"} for _, row in user_tables.read_records(tmp_path / "t.csv")] == [
        {"a": "1", "b": "x;y"}
    ]


@pytest.mark.parametrize(("content", "words"), [
    (b"PK\x03\x04\x14\0", "is a workbook .* save it as 'CSV UTF-8'"), (b"a,b\n1,\x81\n", "is no text in UTF-8, UTF-16"),
    (b"a,b\n1,\0\n", "NUL"), (b'a,b\n"1,2\n', "after line 2: not a CSV"),
])  # fmt: skip
def test_what_is_no_table(tmp_path, content, words):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"t\.csv.*{words}"):
        list(user_tables.read_lines(tmp_path / "t.csv"))


@pytest.mark.parametrize(("text", "value"), [("12.5", 12.5), (" 12,5", 12.5), ("-,25", -0.25), ("1e2", 100), ("7", 7)])
def test_a_number_has_a_point_or_a_comma(text, value):
    assert user_tables.parse_number(text) == value


@pytest.mark.parametrize("text", ["1,024", "1.024,5", "1,2,3", "", "x", "1 024"])
def test_what_is_no_number_or_may_be_two(text):
    with pytest.raises(ValueError, match=r"1024 or 1\.024" if text == "1,024" else "could not convert"):
        user_tables.parse_number(text)


@pytest.mark.parametrize(("name", "expected"), [
    ("1.2.276.0.7230010.3.1.4", "1.2.276.0.7230010.3.1.4"), ("a.DCM", "a"), ("a.dcm.png", "a"), ("x/y/a.1.jpeg", "a.1"),
    ("C:\\x\\a.TIFF", "a"), (" a.png ", "a"), ("a", "a"), ("a.nii.gz", "a"), ("a.final", "a.final"), ("e\u0301", "é"),
])  # fmt: skip
def test_an_id_is_a_name_without_folders_and_endings(name, expected):
    assert parse_image_id(name) == parse_image_id(f"{expected}.png") == parse_image_id(expected) == expected


@pytest.mark.parametrize(("name", "expected"), [
    ("1b2c3d4e-a b.png", "a b"), ("images\\1b2c3d4e-1.2.png", "1.2"), ("/data/upload/7/1b2c3d4e-a%20b.jpg", "a b"),
    ("/data/local-files/?d=siim%2Fa%20b.png", "a b"), ("/data/local-files/?d=siim/1.2.png", "1.2"),
    ("a b_png.rf.00ffaa11.jpg", "a b"), ("https://h/x/1.2.png?token=/k", "1.2"), ("other.png", "other"),
    ("1b2c3d4e-own.png", "1b2c3d4e-own"),
])  # fmt: skip
def test_names_of_annotation_tools_mean_an_image(name, expected):
    assert match_image_id(name, {"a b", "1.2", "own", "1b2c3d4e-own"}) == expected
