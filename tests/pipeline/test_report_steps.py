"""The report on how a run was made and decided: its steps, the operating point, what the figures are held out from."""

import pytest

from cxr.files import write_json
from cxr.paths import ROOT
from cxr.recipe import Recipe, read_recipe
from pipeline.report import headline, provenance, thresholds
from pipeline.report.blocks import FoldedBlock
from pipeline.run_files import RunFiles
from tests.pipeline import report_world

RECORD = {"seconds": 5, "commit": None, "versions": {"python": "3.11"}, "config": {"seed": 1}}


@pytest.fixture
def recipe(home) -> Recipe:
    return read_recipe(ROOT / "recipes" / "smoke.yaml")


@pytest.fixture
def run(recipe, tmp_path) -> RunFiles:
    return RunFiles(recipe, recipe.build_paths(tmp_path / "some data"))


def test_steps_are_the_recipes_and_what_was_left_beside_them_is_not(run):
    paths, (member, *_), fold = run.paths, run.recipe.stage1, run.recipe.folds_to_train[0]
    prepare_folders = [paths.prepared_folder, paths.folds_csv.parent]
    own_folders = [
        paths.stage0_folder / "fold0",
        paths.stage0_folder / "detections",
        paths.stage0_folder,
        paths.fold_folder(1, member, fold),
        paths.stage3_folder,
    ]
    other_folders = [
        paths.stage0_folder / "fold9",
        paths.fold_folder(1, member, 9),
        paths.fold_folder(1, "gone", fold),
        paths.run_folder / "stage2" / "gone",
    ]
    for folder in (*prepare_folders, *own_folders, *other_folders):
        write_json(folder / "run.json", RECORD)
    write_json(paths.artifacts_folder / "doctor.json", {"data": str(paths.data_folder), "seconds": 61})
    write_json(paths.stage3_folder / "run.json", RECORD | {"commit": "0123456789", "adopted": [{"date": "2030-01-02"}]})
    table, *_ = provenance.build_blocks(run)
    assert table.rows[-1][-1] == "012345678 (adopted)"
    assert [row[0] for row in table.rows] == [
        "prepare", "folds", "doctor", "stage0/fold0", "stage0/detections", "stage0", f"stage1/{member}/fold{fold}",
        "stage3",
    ]  # fmt: skip
    assert [row[1] for row in table.rows] == ["0:05", "0:05", "1:01", *["0:05"] * 5]


def test_every_step_that_was_made_has_its_settings_once(run):
    for fold in run.recipe.folds_to_train:
        write_json(run.paths.fold_folder(1, run.recipe.stage1[0], fold) / "run.json", RECORD)
    write_json(run.paths.folds_csv.parent / "run.json", RECORD)
    titles = [block.title for block in provenance.build_blocks(run) if isinstance(block, FoldedBlock)]
    first = f"stage1/{run.recipe.stage1[0]}/fold{run.recipe.folds_to_train[0]}"
    assert titles == [f"recipe {run.recipe.name}", "settings of folds", f"settings of {first}"]


def describe_point(run: RunFiles, point: dict, by: str = "fold") -> str:
    """What the report says of an operating point."""
    decision = {"test": report_world.DECISION, "held_out": {"nested_by": by}, "operating_point": point}
    write_json(run.paths.stage3_folder / "decision.json", decision)
    return " ".join(block for block in thresholds.build_blocks(run) if isinstance(block, str))


def test_a_threshold_without_a_target_is_that_of_the_settings(run):
    reached = {"sensitivity": 0.7, "specificity": None}
    text = describe_point(run, {"target": {}, **reached, "held_out": reached})
    assert text.startswith(
        "The probability threshold was not chosen: it is that of the settings. On the held-out images it has"
    )
    assert ", specificity –." in text
    assert "Kaggle" not in text


def test_without_masks_a_threshold_without_a_target_may_be_a_half(run):
    run = RunFiles(run.recipe.model_copy(update={"stage2": []}), run.paths)
    assert "it is that of the settings, or .5" in describe_point(run, {"target": {}, "sensitivity": 0.7})


def test_kaggles_dice_is_named_as_a_target(run):
    text = describe_point(run, {"target": {"kaggle_dice": True}, "sensitivity": 0.7, "held_out": {"sensitivity": 0.6}})
    assert text.startswith(
        "The probability threshold aims at the best of Kaggle's Dice. On the images it was chosen on it has "
        "sensitivity .700; chosen on the other groups, sensitivity .600."
    )


def test_a_target_out_of_reach_is_described_in_sentences(run):
    problems = {"test": "specificity 0.99 is out of reach: 0.985 at most", "2": "no image with a pneumothorax"}
    point = {"target": {"specificity": 0.99}, "sensitivity": 0.2, "specificity": None, "problems": problems}
    text = describe_point(run, point, "subfold")
    assert "it has sensitivity .200, specificity –. For the test: specificity 0.99 is out of reach: 0.985 at" in text
    assert "For subfold 2: no image with a pneumothorax." in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("decision", "ending"),
    [
        ({"held_out": {"nested_by": "fold"}}, "by which it was chosen, saw the images that it judges."),
        ({"held_out": {"nested_by": "subfold"}}, "labels of the images that it judges; no other network was used."),
        ({"held_out": {"nested_by": []}}, "but the decision alone is nested."),
        ([], "but the decision alone is nested."),
    ],
)
def test_what_a_nested_decision_owes_goes_by_what_it_is_nested_by(run, decision, ending):
    part = {"all": {}, "by": {}, "images": 3, "positives": 1, "patients": 0, "resampled": "by image", "prevalence": 0.3}
    write_json(run.paths.stage3_folder / "panel.json", {"resamples": 100, "held_out": part})
    write_json(run.paths.stage3_folder / "decision.json", decision)
    (note,) = [block for block in headline.build_blocks(run) if isinstance(block, str) and block.startswith("An AUC")]
    assert note.endswith(ending)
    assert note.count("other folds' networks") == (decision == {"held_out": {"nested_by": "fold"}})
