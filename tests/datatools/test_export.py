"""The export command: what it refuses, and what stands in its place whatever happens."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from cxr.imaging.geometry import Box
from cxr.paths import ROOT
from cxr.recipe import read_recipe
from datatools.export import export_folder
from datatools.export.__main__ import ExportConfig, export_prepared_data, main
from datatools.export.export_source import Source, crop_mask
from prepare.steps import PrepareConfig, prepare_data

BOX = (4, 8, 60, 56)  # of the fixture's images


@pytest.fixture
def recipe(tmp_path):
    smoke = yaml.safe_load((ROOT / "recipes" / "smoke.yaml").read_text()) | {"prepared_size": 64}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(smoke))
    return read_recipe(tmp_path / "small.yaml")


@pytest.fixture
def exported(recipe, prepared_paths, tmp_path):
    """A function that exports the small data in a layout, and returns the folder."""

    def run(to, out="an export", **more):
        export_prepared_data(recipe, prepared_paths, ExportConfig(to=to, **more), tmp_path / out)
        return tmp_path / out

    return run


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def beside(folder):
    return [path.name for path in folder.parent.iterdir() if path.name.startswith(f".{folder.name}")]


# --- the command -------------------------------------------------------------------------------


def test_the_command_takes_up_the_last_run(recipe, prepared_paths, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA", str(prepared_paths.data_folder))
    monkeypatch.setenv("RECIPE", str(tmp_path / "small.yaml"))
    prepared_paths.run_folder.rename(prepared_paths.run_folder.with_name("small"))
    monkeypatch.setattr(sys, "argv", ["export", "--to", "png-masks", "--size", "32"])
    main()
    out = prepared_paths.artifacts_folder / "export" / "png-masks"
    assert cv2.imread(str(out / "masks" / "1.2.0.png"), cv2.IMREAD_UNCHANGED).shape == (32, 32)
    assert "export: 16 train, 3 test, 1 unlabelled; " in capsys.readouterr().out
    facts = json.loads((out / "export.json").read_text())
    assert (facts["layout"], facts["size"], facts["crop"], facts["recipe"]) == ("png-masks", 32, "full", "small")


def test_an_unknown_layout_names_the_seven(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", "--to", "zip"])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err.split("invalid choice")[1]
    for layout in ("jpeg-classes", "png-masks", "h5", "tfrecord", "coco", "nnunet", "monai"):
        assert layout in said


@pytest.mark.parametrize("size", ["4", "5000"])
def test_a_size_that_is_none(size, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["export", "--to", "coco", "--size", size])
    with pytest.raises(UsageError, match="key 'size'"):
        main()


def test_data_that_is_not_prepared(exported, prepared_paths, tmp_path):
    (prepared_paths.prepared_folder / "run.json").unlink()  # as while prepare is at work
    with pytest.raises(UsageError, match=r"not finished.*python -m prepare"):
        exported("png-masks")
    assert not (tmp_path / "an export").exists()


def test_data_prepared_anew_meanwhile(exported, prepared_paths, tmp_path, monkeypatch):
    def again(*_):
        (prepared_paths.prepared_folder / "run.json").write_text('{"fingerprint": "another"}')
        return b""

    monkeypatch.setattr("datatools.export.png_masks.encode_png", again)
    with pytest.raises(UsageError, match="made anew during the export"):
        exported("png-masks")
    assert not (tmp_path / "an export").exists()


def test_folds_of_other_data(exported, prepared_paths):
    path = prepared_paths.folds_csv
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UsageError, match=r"folds are of other images.*python -m prepare"):
        exported("monai")


def test_an_id_that_cannot_name_a_file(exported, prepared_paths, dicom):
    dicom.save(
        dicom.dataset(np.zeros((64, 64), np.uint8)), prepared_paths.data_folder / "dicom-images-train" / "a?b.dcm"
    )
    prepare_data(prepared_paths, PrepareConfig(size=64, folds=2, subfolds=2), workers=1)
    with pytest.raises(DataError, match=r"'a\?b' cannot name a file"):
        exported("png-masks")


def test_a_missing_box(exported, prepared_paths):
    table = tables.read_table(prepared_paths.boxes_csv, tables.BOXES, "")
    tables.write_table(table[table["Filename"] != "1.2.3.png"], prepared_paths.boxes_csv, tables.BOXES)
    with pytest.raises(UsageError, match=r"1\.2\.3 has no chest box.*stage0_bbox"):
        exported("png-masks", crop="box")
    assert (exported("coco") / "annotations.json").is_file()  # boxes where present


# --- sizes and cuts ----------------------------------------------------------------------------


def test_cut_to_the_chest(exported, prepared_paths):
    prepared, out = (
        Prepared(prepared_paths.prepared_folder, prepared_paths.folds_csv),
        exported("png-masks", crop="box"),
    )
    xmin, ymin, xmax, ymax = BOX
    for place_, whole in (("images", prepared.read_image("1.2.0")), ("masks", prepared.read_mask("1.2.0") * 255)):
        found = cv2.imread(str(out / place_ / "1.2.0.png"), cv2.IMREAD_UNCHANGED)
        expected = cv2.resize(whole[ymin:ymax, xmin:xmax], (64, 64), interpolation=cv2.INTER_LINEAR)
        expected = np.where(expected > 127, 255, 0) if place_ == "masks" else expected
        np.testing.assert_array_equal(found, expected)


def test_a_tiny_mask_does_not_vanish_but_outside_the_cut():
    mask = np.zeros((64, 64), np.uint8)
    mask[40, 8] = 1
    assert np.argwhere(crop_mask(mask, Box(0, 0, 64, 64), 8)).tolist() == [[5, 1]]
    assert not crop_mask(mask, Box(20, 0, 64, 64), 8).any()


def test_few_images_are_in_memory_at_a_time(prepared_paths, monkeypatch):
    monkeypatch.setattr("datatools.export.export_source.BATCH", 4)
    source, made = Source(Prepared(prepared_paths.prepared_folder, prepared_paths.folds_csv), {}, 64, "full"), []
    for taken, name in enumerate(
        source.map_examples(lambda example: made.append(1) or example.image_id, source.image_ids)
    ):
        assert len(made) <= taken // 4 * 4 + 4
        assert name == source.image_ids[taken]
    assert len(made) == 20
    assert not {"pixels", "masks"} & set(vars(source.prepared))  # mapped pages are let go


# --- the place ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["notes.txt", "export.json"])
def test_what_is_no_export_stays(exported, tmp_path, content):
    out = tmp_path / "an export"
    out.mkdir()
    (out / content).write_text("{}")
    with pytest.raises(UsageError, match="is no export"):
        exported("png-masks")
    assert names(out) == [content]


def test_an_older_export_gives_way(exported):
    exported("monai")
    out = exported("png-masks")
    assert not [name for name in names(out) if name.startswith("labels")]
    assert beside(out) == []


@pytest.mark.parametrize("change", ["add", "edit", "remove"])
def test_an_export_that_a_user_changed_stays(exported, change):
    out = exported("png-masks")
    mask = out / "masks" / "1.2.0.png"
    {"add": (out / "mine.txt").touch, "edit": lambda: os.utime(mask), "remove": mask.unlink}[change]()
    before = names(out)
    with pytest.raises(UsageError, match="added, changed or removed"):
        exported("monai")
    assert names(out) == before


def test_a_failure_leaves_the_older_export(exported, monkeypatch):
    out = exported("png-masks")
    before = names(out)
    monkeypatch.setattr(
        "datatools.export.monai_datalist.encode_png", lambda image: Path("/nowhere/at/all").read_bytes()
    )
    with pytest.raises(UsageError, match="/nowhere/at/all: No such file or directory; nothing was exported"):
        exported("monai")
    assert names(out) == before
    assert beside(out) == []


HOLD = """
import sys, time
from pathlib import Path
from datatools.export.export_folder import replace_export
with replace_export(Path(sys.argv[1]), {}) as folder:
    (folder / "half").touch()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_two_at_once_and_a_kill_in_the_middle(exported, tmp_path):
    out = tmp_path / "an export"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"writing\n"
        with pytest.raises(UsageError, match=f"another process .{other.pid}. is working"):
            exported("png-masks")
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert not out.exists()
    assert "half" not in names(exported("png-masks"))
    assert beside(out) == []


def test_killed_between_its_two_renames_the_older_export_comes_back(exported, tmp_path, monkeypatch):
    out = exported("png-masks")
    workshop = tmp_path / ".an export.partial"
    workshop.mkdir()
    out.rename(workshop / "old")
    monkeypatch.setattr(export_folder, "write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exported("monai")
    assert (out / "folds.csv").is_file()
    assert beside(out) == []
