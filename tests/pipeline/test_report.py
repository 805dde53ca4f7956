"""The report of a run: all its chapters, its lines on missing and damaged files, and when it is written anew."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cxr.errors import UsageError
from cxr.files import read_json, write_json
from cxr.imaging.geometry import Letterbox
from cxr.paths import ROOT
from pipeline.pictures.image_record import ImageRecord
from pipeline.report import cams, gallery, page, provenance, stackers, write_report
from pipeline.report.blocks import Gallery
from pipeline.report.report_steps import build_page_step
from pipeline.run_files import RunFiles
from tests.evaluation.panel_cases import made
from tests.pipeline import report_world
from tests.pipeline.html_checks import check_page
from tests.stage3_stack.toy_world import World, make_world

DOCTOR = {
    "seconds": 61.0, "summary": "1 note: <fine>", "counts": {"train_images": 120},
    "findings": [{"severity": "note", "count": 7, "what": "ages are missing", "examples": ["im001"]}],
    "prevalence": [{"by": "view", "group": "AP", "images": 10, "positive": 4, "share": 0.4}],
}  # fmt: skip


@pytest.fixture
def world(home, monkeypatch) -> World:
    """A run whose Grad-CAMs are a bright quarter."""
    toy_world = make_world(home, train=60, test=12)
    corner = np.zeros((8, 8), np.uint8)
    corner[:4, :4] = 255
    monkeypatch.setattr(cams, "load_cams", lambda run, ids: ({"a": dict.fromkeys(ids, corner)}, []))
    monkeypatch.setattr(stackers, "RESAMPLES", 100)
    monkeypatch.setattr(
        provenance, "list_step_folders", lambda recipe, paths: [paths.fold_folder(1, "a", 0), paths.stage3_folder]
    )
    return toy_world


@pytest.fixture
def run(world) -> RunFiles:
    return report_world.write_run(world)


def read_report(run: RunFiles):
    return check_page(write_report(run.recipe, run.paths).read_text(encoding="utf-8"))


def read_chapter(run: RunFiles, name: str) -> str:
    """The paragraphs of one chapter, and how many cards its galleries have."""
    (chapter,) = [page.build_chapter(run, *spec) for spec in page.CHAPTERS if spec[0] == name]
    cards = [f"{block.title}: {len(block.cards)} cards" for block in chapter.blocks if isinstance(block, Gallery)]
    return " ".join([block for block in chapter.blocks if isinstance(block, str)] + cards)


@pytest.fixture
def one_chapter(monkeypatch) -> None:
    """A page of one chapter, which takes little time."""
    monkeypatch.setattr(page, "CHAPTERS", page.CHAPTERS[-1:])


def test_every_chapter_is_there_and_shows_the_files_figures(run):
    write_json(run.paths.artifacts_folder / "doctor.json", DOCTOR | {"data": str(run.paths.data_folder)})
    report = read_report(run)
    assert report.ids == [name for name, _, _ in page.CHAPTERS]
    assert report.text.startswith("toy on some data")
    assert report.text.count("Left out") == 1  # the toy has no stage 0
    assert "Left out: stage0/run.json is missing" in report.text
    assert "Research use only: not a medical device." in report.text
    auc = json.loads((run.paths.stage3_folder / "panel.json").read_text())["held_out"]["all"]["auc"]
    assert f"AUC, mean over folds {auc['value']:.3f}".replace(" 0.", " .") in report.text
    assert "top score .700 .600 to .700 .500 to .800" in report.text
    assert "Choosing gained .021" in report.text
    assert "aims at specificity .930. On the images it was chosen on it has specificity .931; chosen on" in report.text
    assert "dense head on their features ← in use" in report.text
    assert "1 note: <fine>" in report.text
    assert "ages are missing" in report.text
    assert "Patients unknown" in report.text
    assert "doctor 1:01 – – stage3 0:12 1.5 GB 012345678" in report.text
    for kind in gallery.KINDS:
        assert kind in report.text
    assert "Grad-CAM, mean of 1" in report.text
    assert "patient1" not in report.text  # no patient, and no folder of this machine
    assert str(run.paths.artifacts_folder) not in report.text


def test_before_stage_3_only_its_chapters_are_left_out(world):
    text = read_report(RunFiles(world.recipe, world.paths)).text
    assert text.count("Left out:") >= 6
    assert "cases.parquet is missing" in text
    assert "recipe toy" in text


@pytest.mark.parametrize(
    ("name", "chapter", "message"),
    [
        ("scores.parquet", "stack", "Left out: stage3/scores.parquet is missing"),
        ("decision.json", "reliability", "Left out: stage3/decision.json is missing or damaged"),
        ("leaks.json", "folds", "No leak figures: stage3/leaks.json is missing or damaged"),
        ("panel.json", "headline", "Left out: stage3/panel.json is missing or damaged"),
        ("search.npz", "thresholds", "nothing was searched"),
    ],
)
def test_a_file_that_is_not_there_is_named(run, name, chapter, message):
    (run.paths.stage3_folder / name).unlink()
    assert message in read_chapter(run, chapter)


@pytest.mark.parametrize(
    ("name", "chapter", "message"),
    [
        ("cases.parquet", "curves", "cases.parquet cannot be read"),
        ("scores.parquet", "gallery", "Left out: stage3/scores.parquet does not fit"),
        ("panel.json", "headline", "Left out: stage3/panel.json is missing or damaged"),
        ("search.npz", "thresholds", "Left out: stage3/search.npz cannot be read"),
    ],
)
def test_a_damaged_file_is_named(run, name, chapter, message):
    (run.paths.stage3_folder / name).write_bytes(b"damaged")
    assert message in read_chapter(run, chapter)


@pytest.mark.parametrize(
    ("name", "chapter"), [("decision.json", "thresholds"), ("panel.json", "headline"), ("leaks.json", "folds")]
)
def test_a_file_of_another_version_leaves_its_chapter_out(run, name, chapter):
    write_json(run.paths.stage3_folder / name, {"held_out": {"images": 3}})
    assert "lacks what it should hold (KeyError: " in read_chapter(run, chapter)


@pytest.mark.parametrize("odd", [[], [1], "text", 3])
@pytest.mark.parametrize(
    ("name", "chapter"), [("decision", "thresholds"), ("panel", "headline"), ("leaks", "folds"), ("run", "stack")]
)
def test_a_file_that_is_no_object_is_damaged(run, name, chapter, odd):
    write_json(run.paths.stage3_folder / f"{name}.json", odd)
    assert f"stage3/{name}.json is missing or damaged" in read_chapter(run, chapter)


@pytest.mark.parametrize(
    ("changes", "chapter", "raised"),
    [
        ({"calibration": [1]}, "reliability", "AttributeError"),
        ({"held_out": [1]}, "gallery", "AttributeError"),
        ({"search": {"fold_spread": {"top_score_threshold": [0.3]}}}, "thresholds", "ValueError"),
        ({"operating_point": {"target": {}, "problems": []}, "held_out": []}, "thresholds", "TypeError"),
    ],
)
def test_an_odd_value_leaves_only_its_chapter_out(run, changes, chapter, raised):
    report_world.change_decision(run.paths, **changes)
    assert f"lacks what it should hold ({raised}: " in read_chapter(run, chapter)


def test_an_odd_place_in_a_list_leaves_its_chapter_out(run):
    assert "(IndexError: " in page.build_chapter(run, "name", "title", lambda _: [][0]).blocks[0]


@pytest.mark.parametrize("empty", [None, [], {}])
def test_a_calibration_that_nobody_noted_is_unknown(run, empty):
    report_world.change_decision(run.paths, calibration=empty)
    assert "Calibration: unknown" in read_chapter(run, "reliability")


@pytest.mark.parametrize("changes", [{"data": "/elsewhere/some data"}, {"data": None}, {}])
def test_the_doctor_of_another_folder_of_this_name_is_not_shown(run, changes):
    write_json(run.paths.artifacts_folder / "doctor.json", DOCTOR | changes)
    assert read_chapter(run, "doctor").startswith("Left out: doctor.json is of another data folder")
    assert not [row for row in provenance.build_blocks(run)[0].rows if row[0] == "doctor"]


def test_data_that_is_not_prepared_is_refused(world):
    (world.paths.prepared_folder / "manifest.parquet").unlink()
    with pytest.raises(UsageError, match="made by: prepare"):
        write_report(world.recipe, world.paths)
    assert not list(world.paths.run_folder.glob("*.html"))


def test_without_segmenters_test_or_doctor(world):
    world.recipe = world.recipe.model_copy(update={"stage2": []})
    report_world.write_run(world)
    cases = pd.read_parquet(world.paths.stage3_folder / "cases.parquet").query("split == 'train'")
    report_world.write_stage3(world, cases.assign(nsd=np.nan, found=0, overlap=0, hit=0, extra=0))
    (world.paths.stage3_folder / "search.npz").unlink()
    text = read_report(RunFiles(world.recipe, world.paths)).text
    assert "The recipe has no segmenters: there are no masks to judge." in text
    assert "the probability threshold alone decides" in text
    assert "The test images' truth is not known" in text
    assert "the doctor has not seen this data yet" in text
    assert "mean map" not in text
    assert "Worst false negatives The largest" in text


def test_without_classifiers(world, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("CXR_HOME", str(world.recipe_file.parent))
    world.recipe = world.recipe.model_copy(update={"stage1": []})
    text = read_chapter(report_world.write_run(world), "gallery")
    assert "The recipe has no classifiers: there is no Grad-CAM." in text
    assert "Worst false positives: 6 cards" in text


def test_images_of_one_class(world):
    report_world.write_run(world)
    cases = pd.read_parquet(world.paths.stage3_folder / "cases.parquet").query("label == 0")
    report_world.write_stage3(world, cases)
    run = RunFiles(world.recipe, world.paths)
    assert "there is no curve to draw" in read_chapter(run, "curves")
    assert "Worst false negatives: none." in read_chapter(run, "gallery")
    for name in ("headline", "reliability", "stack", "lesions"):
        assert "Left out" not in read_chapter(run, name)


def test_a_second_call_writes_only_what_changed(run, one_chapter, capsys):
    path = write_report(run.recipe, run.paths)
    before, first = path.read_bytes(), path.stat().st_mtime_ns
    write_report(run.recipe, run.paths)
    assert path.stat().st_mtime_ns == first
    assert "up to date" in capsys.readouterr().out
    for damaged in (b"", before[:1000], before + b"edited"):
        path.write_bytes(damaged)
        write_report(run.recipe, run.paths)
        assert len(path.read_bytes()) == pytest.approx(len(before), abs=100)
    record = read_json(run.paths.stage3_folder / "panel.json")
    write_json(run.paths.stage3_folder / "panel.json", record | {"another": 1})
    first = path.stat().st_mtime_ns
    write_report(run.recipe, run.paths)
    assert path.stat().st_mtime_ns != first


def test_a_file_written_while_the_page_is_made_makes_it_old(run, one_chapter, monkeypatch):
    made_page = page.render_page

    def slow(*arguments):
        write_json(run.paths.stage3_folder / "panel.json", {"another": 1})
        return made_page(*arguments)

    monkeypatch.setattr(page, "render_page", slow)
    write_report(run.recipe, run.paths)
    assert not build_page_step(run.recipe, run.paths).is_up_to_date
    write_report(run.recipe, run.paths)
    assert build_page_step(run.recipe, run.paths).is_up_to_date


def test_a_page_that_cannot_be_made_leaves_the_old_one(run, one_chapter, monkeypatch):
    path = write_report(run.recipe, run.paths)
    before = path.read_bytes()
    monkeypatch.setenv("FORCE", "1")
    monkeypatch.setattr(page, "render_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(run.recipe, run.paths)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.glob("*report*")] == ["report.html"]


def test_nothing_heavy_is_imported_before_the_check():
    code = (
        "import sys, pipeline.report.__main__; "
        "assert not {'matplotlib', 'jinja2', 'sklearn', 'torch', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_page_of_12_000_images_is_small(world, monkeypatch):
    cases = made(12_000)
    cases.loc[11_000:, "split"] = "test"
    report_world.write_stage3(world, cases, resamples=100)
    noise = np.random.default_rng(0).integers(0, 255, (1024, 1024), dtype=np.uint8)
    box = Letterbox(1024, 1024, 1024)
    monkeypatch.setattr(
        gallery, "gather_image_record", lambda image_id, run: ImageRecord(image_id, "train", 0, noise, box)
    )
    path = write_report(world.recipe, world.paths)
    assert check_page(path.read_text(encoding="utf-8")).text.count("Grad-CAM, mean of 1") == 5 * gallery.MAX_PER_KIND
    assert path.stat().st_size < 15e6
