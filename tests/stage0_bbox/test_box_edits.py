"""The table that the user may edit: edits are kept, damage is repaired, and a wrong row is named."""

import re
import shutil

import pandas as pd
import pytest

from cxr import runs, tables
from cxr.datasets import box_table
from cxr.errors import DataError, UsageError
from stage0_bbox import box_edits, config
from stage0_bbox.choose_boxes import write_box_tables
from tests.stage0_bbox.stage_runs import build_chooser, build_settings, edit_row, make_detections, read_table, run_stage


def test_an_edited_box_is_kept_and_the_later_stages_see_it(house, capsys):
    unit, path = run_stage(house), house.paths.editable_boxes_csv
    before, later = read_table(house), runs.digest_file(house.paths.boxes_csv)
    edit_row(path, "1.4", xmin="12.5", xmax="99")
    assert box_table.read_run_boxes(house.paths)["1.4"] == box_table.read_boxes(house.paths.boxes_csv)["1.4"]
    assert "was edited since stage 0 wrote it" in capsys.readouterr().out
    assert not config.build_box_step(house.recipe, house.paths, build_settings()).is_up_to_date
    capsys.readouterr()
    unit = run_stage(house)
    assert unit.is_up_to_date
    assert runs.digest_file(house.paths.boxes_csv) != later  # an input of every stage that crops
    rows = read_table(house)
    assert rows.loc["1.4", ["xmin", "xmax", "source"]].tolist() == [12.5, 99, "edited"]
    pd.testing.assert_frame_equal(rows.drop("1.4"), before.drop("1.4"))
    assert "model 1 of 2: up to date" in capsys.readouterr().out
    run_stage(house, margin=0.1)
    assert read_table(house).loc["1.4", ["xmin", "xmax", "source"]].tolist() == [12.5, 99, "edited"]


def of_another_recipe(house):
    """The same data, prepared and folded alike, for a run of another name."""
    paths = type(house.paths)(house.paths.data_folder, "other", 64)
    shutil.copytree(house.paths.folds_csv.parent, paths.folds_csv.parent)
    return type(house)(**vars(house) | {"paths": paths})


def test_another_recipes_boxes_are_no_edits_and_leave_ours(house):
    unit = run_stage(house)
    first, ours = read_table(house), house.paths.boxes_csv.read_bytes()
    other = of_another_recipe(house)
    run_stage(other, margin=0.2)
    assert not read_table(house).equals(first)  # to be looked at are those that were written last
    assert not box_edits.find_edits(house.paths.editable_boxes_csv)
    assert unit.is_up_to_date
    assert house.paths.boxes_csv.read_bytes() == ours


def test_an_edit_is_every_recipes(house):
    run_stage(house)
    other = of_another_recipe(house)
    edit_row(house.paths.editable_boxes_csv, "1.4", xmin="12.5", xmax="99")
    run_stage(other, margin=0.2)
    assert not config.build_box_step(house.recipe, house.paths, build_settings()).is_up_to_date
    run_stage(house)
    for paths in (house.paths, other.paths):
        assert box_table.read_boxes(paths.boxes_csv)["1.4"][::2] == (12.5, 99)


def test_missing_rows_are_refilled(house):
    unit, path = run_stage(house), house.paths.editable_boxes_csv
    whole = read_table(house)
    for damaged in ("", "".join(path.read_text().splitlines(keepends=True)[:5])):
        path.write_text(damaged)
        assert not unit.is_up_to_date
        run_stage(house)
        pd.testing.assert_frame_equal(read_table(house), whole)
    path.unlink()
    assert not unit.is_up_to_date
    run_stage(house)
    pd.testing.assert_frame_equal(read_table(house), whole)


def test_a_table_or_picture_that_is_cut_anywhere_is_written_again(house):
    unit, path = run_stage(house), house.paths.editable_boxes_csv
    picture = path.with_suffix(".jpg")
    whole = path.read_bytes(), picture.read_bytes()
    for count in (0, 40, len(whole[0]) // 2, len(whole[0]) - 1):  # in the header, in the middle of a number
        path.write_bytes(whole[0][:count])
        assert run_stage(house).is_up_to_date
        assert path.read_bytes() == whole[0]
    for damage in (lambda: picture.write_bytes(whole[1][:-100]), picture.unlink):
        damage()
        assert not unit.is_up_to_date
        run_stage(house)
        assert picture.read_bytes() == whole[1]
    assert unit.is_up_to_date


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"xmin": "90", "xmax": "20"}, r"row 6 \(1\.4\.png\).*xmin < xmax"),
        ({"ymin": "1,024"}, r"row 6 \(1\.4\.png\).*not a number \(1,024 may mean 1024 or 1\.024"),
        ({"ymax": ""}, r"row 6 \(1\.4\.png\).*not a number"),
        ({"xmin": "1000", "xmax": "1001"}, r"row 6 \(1\.4\).*outside its image"),
        ({"xmin": "1", "xmax": "1001"}, r"row 6 \(1\.4\).*outside its image"),
        ({"Filename": "1.5.png"}, r"row 7.*1\.5 stands there twice \(first in row 6\)"),
    ],
)
def test_a_row_that_the_user_broke_is_named(house, values, said):
    choose, path = build_chooser(house), house.paths.editable_boxes_csv
    sure = choose.choose_boxes(make_detections(house, 0.9))
    write_box_tables(choose.build_table(sure, {}, path), path, house.paths.boxes_csv)
    edit_row(path, "1.4", **values)
    with pytest.raises(DataError, match=said) as caught:
        choose.build_table(sure, box_edits.find_edits(path), path)
    assert "xray.csv" in str(caught.value)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_boxes_that_a_spreadsheet_saved_are_the_same(house, encoding):
    choose, path = build_chooser(house), house.paths.editable_boxes_csv
    write_box_tables(
        choose.build_table(choose.choose_boxes(make_detections(house, 0.9)), {}, path), path, house.paths.boxes_csv
    )
    before = read_table(house)
    text = re.sub(r"(?<=;)(\d+)\.(\d+)(?=[;\n])", r"\1,\2", path.read_text().replace(",", ";"))
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    pd.testing.assert_frame_equal(read_table(house), before)
    assert box_edits.find_edits(path) == {}
    path.write_bytes(re.sub(r"1\.4\.png;[\d,]+;", "1.4.png;12,5;", text).encode(encoding))
    assert {key: row.box.xmin for key, row in box_edits.find_edits(path).items()} == {"1.4": 12.5}


@pytest.mark.parametrize("edges", ["90,20,1,9", "nan,20,1,9", "1,inf,1,9", ",20,1,9", "1,20,9,9"])
def test_what_is_no_box_is_read_by_nobody(tmp_path, edges):
    (tmp_path / "boxes.csv").write_text(f"{','.join(tables.BOXES)}\na.png,{edges},.9,model\n")
    with pytest.raises((DataError, UsageError), match=r"boxes\.csv"):
        box_table.read_boxes(tmp_path / "boxes.csv")


def test_an_unmarked_edit_outlives_a_kill_before_the_table_is_renamed(house):
    run_stage(house)
    path = house.paths.editable_boxes_csv
    edit_row(path, "1.4", xmin="12.5")
    shutil.copyfile(path, box_edits.pending_copy(path))
    edit_row(box_edits.pending_copy(path), "1.4", source="edited")  # what the run was writing when it was killed
    assert list(box_edits.find_edits(path)) == ["1.4"]


def test_a_cut_copy_of_what_was_written_is_written_again(house):
    unit, copy = run_stage(house), box_table.written_copy_path(house.paths.editable_boxes_csv)
    whole = copy.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        copy.write_bytes(content)
        assert not unit.is_up_to_date
        run_stage(house)
        assert copy.read_bytes() == whole


def test_the_last_row_can_be_given_back_in_an_editor_without_a_last_line_end(house):
    run_stage(house)
    path = house.paths.editable_boxes_csv
    last = path.read_text().splitlines()[-1].partition(".png")[0]
    edit_row(path, last, xmin="12.5")
    run_stage(house)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    run_stage(house)
    assert read_table(house).loc[last, "source"] != "edited"


def test_a_run_cut_off_while_writing_makes_no_edits(house, monkeypatch):
    run_stage(house)
    monkeypatch.setattr("stage0_bbox.choose_boxes.os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_stage(house, margin=0.1)
    monkeypatch.undo()
    assert not box_edits.find_edits(house.paths.editable_boxes_csv)
