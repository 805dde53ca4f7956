"""What the report's chapters compute: rates, galleries, boxes, Grad-CAM from another process, a view in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from cxr import tables
from cxr.errors import DataError
from cxr.recipe import SmallTrial
from pipeline.pictures.figure import create_figure
from pipeline.report import blocks, cams, chest_boxes, gallery, ranking, write_report
from pipeline.report.blocks import format_with_interval
from pipeline.run_files import RunFiles
from stage0_bbox.config import read_detector_settings
from tests.evaluation.panel_cases import made
from tests.pipeline import report_world
from tests.pipeline.html_checks import check_page
from tests.stage3_stack.toy_world import World, make_world

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1280)


@pytest.fixture
def world(home) -> World:
    return make_world(home, train=60, test=12)


@pytest.fixture
def run(world) -> RunFiles:
    return report_world.write_run(world)


def test_the_rates_at_the_threshold_are_scikit_learns():
    cases = made(200)
    matrix = confusion_matrix(cases["label"], cases["positive"])
    (true_negatives, false_positives), (false_negatives, true_positives) = matrix
    expected = (
        true_positives / (true_positives + false_negatives),
        true_negatives / (true_negatives + false_positives),
        true_positives / (true_positives + false_positives),
    )
    assert ranking.compute_threshold_rates(cases) == pytest.approx(expected)


def test_an_interval_in_one_line():
    assert format_with_interval({"value": 0.9134, "low": 0.8, "high": 1.0}).split() == [".913", "(.800", "to", "1.000)"]
    assert " " not in format_with_interval({"value": 0.9134, "low": 0.8, "high": 1.0})
    assert format_with_interval({"value": 0.5, "low": None, "high": None}) == ".500"
    assert format_with_interval({"value": None, "low": None, "high": None}) == "–"


def make_case_table(**columns) -> pd.DataFrame:
    """Images a, b, ... with these columns."""
    count = len(next(iter(columns.values())))
    values = {"dice": 0.0, "share": 0.1, "prob": 0.5, "spread": 0.0} | columns
    return pd.DataFrame(values, index=[chr(ord("a") + k) for k in range(count)])


def test_mistakes_best_and_median_are_told_apart():
    table = make_case_table(
        label=[0, 0, 0, 1, 1, 1, 1, 1], answer=[True, True, False, False, False, True, True, True],
        prob=[0.6, 0.9, 0.1, 0.2, 0.3, 0.8, 0.7, 0.9], share=[0, 0, 0, 0.1, 0.4, 0.1, 0.1, 0.1],
        dice=[0, 0, 1, 0, 0, 0.9, 0.4, 0.7], spread=[0.1, 0.1, 0.3, 0, 0, 0, 0, 0],
    )  # fmt: skip
    chosen = {title: rows.index.tolist() for title, rows in gallery.choose_images(table).items()}
    assert chosen == {
        "Worst false positives": ["b", "a"], "Worst false negatives": ["e", "d"], "Members disagree": ["c"],
        "Best": ["f", "h", "g"], "Median": [],
    }  # fmt: skip


def test_median_is_that_of_all_positives(monkeypatch):
    """Not of those that are left when the best are taken: of these it would be .5."""
    monkeypatch.setattr(gallery, "MAX_PER_KIND", 2)
    table = make_case_table(label=[1, 1, 1, 1, 1, 0], answer=[True] * 5 + [False], dice=[0.1, 0.5, 0.6, 0.7, 0.9, 1])
    chosen = gallery.choose_images(table)
    assert chosen["Best"].index.tolist() == ["e", "d"]
    assert chosen["Median"].index.tolist() == ["c", "b"]


def test_no_image_is_shown_twice_and_no_kind_has_more_than_its_number():
    count = 100
    random = np.random.default_rng(0)
    names = [f"im{k}" for k in range(count)]
    table = pd.DataFrame({name: random.random(count) for name in ("dice", "share", "prob", "spread")}, index=names)
    table = table.assign(label=random.integers(0, 2, count), answer=random.random(count) > 0.5)
    chosen = [image_id for rows in gallery.choose_images(table).values() for image_id in rows.index]
    assert len(chosen) == len(set(chosen)) == 5 * gallery.MAX_PER_KIND


VIA = """\
filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
im000.jpg,1,"{}",1,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":30,""height"":40}","{}"
im000.jpg,1,"{}",1,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":3,""height"":4}","{}"
im001.jpg,1,"{}",0,0,"{}","{}"
"""
PLAIN = "Filename,xmin,xmax,ymin,ymax\nim000.png,10,40,20,60\n"
COCO = json.dumps({
    "images": [{"id": 7, "file_name": "x/im000.png"}], "annotations": [{"image_id": 7, "bbox": [10, 20, 30, 40]}],
})  # fmt: skip


@pytest.mark.parametrize(("text", "suffix"), [(VIA, ".csv"), (PLAIN, ".csv"), (COCO, ".json")])
def test_hand_boxes_of_every_kind_and_their_overlap(world, tmp_path, monkeypatch, text, suffix):
    path = tmp_path / f"hand{suffix}"
    path.write_text(text)
    detector = read_detector_settings("smoke").model_copy(update={"labels": [path.name]})
    monkeypatch.setattr(chest_boxes, "read_detector_settings", lambda _: detector)
    monkeypatch.setattr(chest_boxes, "find_label_files", lambda *_: (path,))
    boxes = pd.DataFrame([["im000.png", 10, 40, 20, 40, 0.9, "model"]], columns=list(tables.BOXES))
    tables.write_table(boxes, world.paths.boxes_csv, tables.BOXES)
    run = RunFiles(world.recipe, world.paths)
    assert chest_boxes.read_hand_boxes(run) == {"im000": (10, 20, 40, 60)}
    assert chest_boxes.measure_box_overlaps(run).tolist() == [0.5]
    tables.write_table(boxes.assign(source="edited"), world.paths.boxes_csv, tables.BOXES)
    assert chest_boxes.measure_box_overlaps(RunFiles(world.recipe, world.paths)).size == 0
    path.write_text("nothing,like,it\n1,2,3\n")
    with pytest.raises(DataError, match=r"is no file of boxes that is known"):
        chest_boxes.read_hand_boxes(run)


def write_cams(command: tuple[str, ...]) -> bool:
    """What `python -m stage1_classify.cam` would leave."""
    ids, path = command[2:-2], Path(command[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, image_id=np.array(ids), cam=np.zeros((len(ids), 4, 4), np.uint8))
    return True


def test_cams_are_kept_until_a_network_or_the_images_change(run, monkeypatch):
    commands = []
    monkeypatch.setattr(cams, "_run_command", lambda command: commands.append(command) or write_cams(command))
    for member in "ab":
        for fold in (0, 1):
            (run.paths.fold_folder(1, member, fold) / "weights.safetensors").write_text("trained")
    cams_by_member, failures = cams.load_cams(run, ["im000", "im001"])
    assert (list(cams_by_member), list(cams_by_member["a"]), failures) == (["a", "b"], ["im000", "im001"], [])
    cams.load_cams(run, ["im001"])
    assert len(commands) == 2
    cams.load_cams(run, ["im002"])
    assert len(commands) == 4
    (run.paths.fold_folder(1, "a", 1) / "weights.safetensors").write_text("trained anew")
    cams.load_cams(run, ["im002"])
    assert [command[1] for command in commands[4:]] == ["a"]
    path = run.paths.run_folder / "cam" / "b.npz"
    path.write_bytes(path.read_bytes()[:-50])
    cams.load_cams(run, ["im002"])
    assert [command[1] for command in commands[4:]] == ["a", "b"]


def test_a_failed_cam_is_named_and_the_report_goes_on(run, monkeypatch):
    """The toy's members a and b are no files of configs/: the real command refuses them."""
    monkeypatch.setenv("RECIPE", str(run.paths.data_folder.parent / "toy.yaml"))
    monkeypatch.setenv("DATA", str(run.paths.data_folder))
    report = check_page(write_report(run.recipe, run.paths).read_text(encoding="utf-8"))
    assert report.text.count("failed on it") == 2
    assert "Worst false positives" in report.text


def test_a_trial_in_small_loads_no_network_for_its_pictures(world, monkeypatch):
    monkeypatch.setattr(cams.jobs, "start_module", None)
    small = world.recipe.model_copy(update={"small": SmallTrial()})
    assert cams.load_cams(RunFiles(small, world.paths), ["1"]) == ({}, ["A trial in small has no Grad-CAM."])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the page is checked as text alone")
def test_a_browser_shows_it_without_an_error_and_within_the_width(run, monkeypatch, tmp_path):
    """On a phone and on a desk, in frames of these widths: a window cannot be as narrow as a phone."""
    monkeypatch.setattr(cams, "load_cams", lambda run, ids: ({}, []))
    path = write_report(run.recipe, run.paths)
    size_script = "<script>document.title = [innerWidth, document.documentElement.scrollWidth].join(' ')</script>"
    (tmp_path / "page.html").write_text(path.read_text(encoding="utf-8").replace("</body>", size_script + "</body>"))
    frames = [f'<iframe src="page.html" style="width:{width}px;height:2000px"></iframe>' for width in WIDTHS]
    title_script = "<script>onload = () => { document.title = [0, 1].map(k => frames[k].document.title) }</script>"
    (tmp_path / "frames.html").write_text(f"<html><title>-</title><body>{''.join(frames)}{title_script}</body></html>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
               "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
               "--dump-dom", (tmp_path / "frames.html").as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.findall(r"<title>(.*?)</title>", done.stdout)[0] == "390 390,1280 1280"
    assert "CONSOLE" not in done.stderr


def test_the_same_figure_has_the_same_bytes():
    first, second = (blocks.embed_svg(_figure(), "a line") for _ in range(2))
    assert first == second


def _figure():
    figure = create_figure(2, 2, "line")
    figure.subplots().plot([0, 1], [0, 1])
    return figure
