"""The pictures of a run: what they hold, of whole runs and of halves of one."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import recipe as recipes
from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.files import write_json
from cxr.paths import ROOT
from pipeline.pictures import __main__, curves, overlays
from pipeline.run_files import RunFiles

DECISION = {
    "top_score_threshold": 0.5, "min_area": 1, "bottom_score_threshold": 0.5, "probability_threshold": 0.5,
    "label_head_threshold": 0, "min_component_area": 0, "reference_size": 1024,
}  # fmt: skip
NAMES = ["class_balance.png", "overlays.png", "curves.png"]


@pytest.fixture
def recipe() -> recipes.Recipe:
    changes = {"prepared_size": 64, "stage1": ["a", "b"], "stage2": ["u"]}
    return recipes.read_recipe(ROOT / "recipes" / "smoke.yaml").model_copy(update=changes)


@pytest.fixture
def manifest(prepared_paths) -> pd.DataFrame:
    return Prepared(prepared_paths.prepared_folder, prepared_paths.folds_csv).manifest


def write_stack(paths, manifest, wrong=()) -> None:
    """Stacked probabilities that are right except for the images in `wrong`."""
    train = manifest[manifest["split"] == "train"]
    right = train["label"] == 1
    positive = right ^ train.index.isin(wrong)
    table = train[["image_id", "split"]].assign(prob=np.where(positive, 0.9, 0.1), positive=positive)
    tables.write_table(table, paths.stage3_folder / "stacked.parquet", tables.STACKED)
    held_out = {"nested_by": "fold", "0": DECISION, "1": DECISION}
    write_json(paths.stage3_folder / "decision.json", {"test": DECISION, "held_out": held_out})


def write_maps(paths, member: str = "u") -> None:
    """A segmenter that marks the upper left quarter of every held-out image."""
    folds = Prepared(paths.prepared_folder, paths.folds_csv).folds
    for fold, group in folds.groupby("fold"):
        maps = np.zeros((len(group), 32, 32), np.uint8)
        maps[:, :16, :16] = 255
        index = pd.DataFrame({"image_id": group.index, "row": range(len(group)), "prob": np.nan})
        tables.write_table(index, paths.fold_folder(2, member, fold) / "index.parquet", tables.MAP_INDEX)
        np.save(paths.fold_folder(2, member, fold) / "maps.npy", maps)


def write_training(paths, stage: int, member: str, fold: int, **columns: list[float]) -> None:
    folder = paths.fold_folder(stage, member, fold)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.5], "lr": [1e-3, 1e-4]} | columns).to_csv(folder / "history.csv")
    write_json(folder / "run.json", {"metrics": {"kept_epochs": [2]}})


def list_titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_the_bars_of_the_folds_are_the_counts_of_the_tables(recipe, prepared_paths, manifest):
    figure = __main__.draw_class_balance(RunFiles(recipe, prepared_paths))
    pie, bars = figure.axes
    assert [text.get_text() for text in pie.texts] == ["pneumothorax\n8", "none\n8", "50.0%", "50.0%"]
    widths = np.array([bar.get_width() for bar in bars.patches]).reshape(2, 2)  # [with, without; fold]
    folds = Prepared(prepared_paths.prepared_folder, prepared_paths.folds_csv).folds["fold"]
    labels = manifest["label"][folds.index]
    assert widths.tolist() == [[((labels == label) & (folds == fold)).sum() for fold in (0, 1)] for label in (1, 0)]
    assert "16 labelled images (1 unlabelled, 3 test)" in figure.get_suptitle()


def test_three_sizes_and_both_kinds_of_mistakes(recipe, prepared_paths, manifest):
    positives = manifest[manifest["label"] == 1].sort_values("mask_area").index
    negative = manifest.index[manifest["label"] == 0][3]
    missed = positives[0]
    write_stack(prepared_paths, manifest, wrong=(negative, missed))
    write_maps(prepared_paths)
    examples = {example.title: example.record for example in overlays._find_examples(RunFiles(recipe, prepared_paths))}
    assert [examples[f"{size} lesion"].image_id for size in ("small", "middle", "large")] == [
        positives[1], positives[4], positives[7],
    ]  # fmt: skip
    assert (examples["false positive"].image_id, examples["false negative"].image_id) == (negative, missed)
    figure = overlays.draw_overlays(RunFiles(recipe, prepared_paths))
    assert len(figure.axes) == 3 * 5
    large = examples["large lesion"]
    both, total = (large.final_mask & large.truth_mask).sum(), large.final_mask.sum() + large.truth_mask.sum()
    assert any(f"final mask, Dice {2 * both / total:.2f}, IoU" in title for title in list_titles(figure))
    assert sum("final mask: empty" in title for title in list_titles(figure)) == 1


def test_a_right_answer_is_no_mistake(recipe, prepared_paths, manifest):
    write_stack(prepared_paths, manifest)
    write_maps(prepared_paths)
    titles_shown = {example.title for example in overlays._find_examples(RunFiles(recipe, prepared_paths))}
    assert titles_shown == {"small lesion", "middle lesion", "large lesion"}


def test_without_maps_the_stack_alone_tells_the_mistakes(recipe, prepared_paths, manifest):
    """As in a recipe without segmenters."""
    negative = manifest.index[manifest["label"] == 0][0]
    write_stack(prepared_paths, manifest, wrong=(negative,))
    recipe = recipe.model_copy(update={"stage2": []})
    figure = overlays.draw_overlays(RunFiles(recipe, prepared_paths))
    assert len(figure.axes) == 4
    assert list_titles(figure)[-1].startswith("false positive\n")


def test_maps_without_a_stack_show_lesions(recipe, prepared_paths):
    write_maps(prepared_paths)
    figure = overlays.draw_overlays(RunFiles(recipe, prepared_paths))
    assert len(figure.axes) == 2 * 3
    assert "mean map of 1, highest 1.00" in list_titles(figure)


def test_only_images_of_folds_that_were_trained_are_shown(recipe, prepared_paths, manifest):
    write_stack(prepared_paths, manifest)
    write_maps(prepared_paths)
    recipe = recipe.model_copy(update={"train_folds": [1]})
    assert {example.record.fold for example in overlays._find_examples(RunFiles(recipe, prepared_paths))} == {1}


def test_curves_draw_the_columns_that_are_there(recipe, prepared_paths):
    write_training(prepared_paths, 1, "a", 0, score=[0.5, 0.75])
    write_training(prepared_paths, 1, "a", 1, score=[0.6, 0.7])
    write_training(prepared_paths, 2, "u", 1, score=[0.1, 0.2], positives_dice=[0.3, 0.4], positives_iou=[0.2, 0.3])
    figure = curves.draw_curves(RunFiles(recipe, prepared_paths))
    axes = np.array(figure.axes).reshape(2, 5)  # b has no history
    assert [axis.get_title() for axis in axes[0]] == list(curves.CURVE_TITLES.values())
    lines = axes[0, 2].lines  # of each fold its curve and its kept epoch
    assert [line.get_ydata().tolist() for line in lines] == [[0.5, 0.75], [0.75], [0.6, 0.7], [0.7]]
    assert axes[1, 3].lines[0].get_ydata().tolist() == [0.3, 0.4]
    assert lines[2].get_color() == axes[1, 3].lines[0].get_color() != lines[0].get_color()
    assert not axes[0, 3].axison


def test_a_recipe_without_classifiers(recipe, prepared_paths):
    write_training(prepared_paths, 2, "u", 0)
    figure = curves.draw_curves(RunFiles(recipe.model_copy(update={"stage1": []}), prepared_paths))
    assert [axis.get_title() for axis in figure.axes] == ["training loss", "learning rate"]


def test_files_are_replaced_and_what_there_is_nothing_of_is_removed(recipe, prepared_paths, manifest):
    folder = prepared_paths.run_folder / "pictures"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_text("old")
    write_training(prepared_paths, 1, "a", 0)
    assert [path.name for path in __main__.draw_pictures(recipe, prepared_paths)] == NAMES
    assert all(min(Image.open(folder / name).size) > 200 for name in NAMES)
    (prepared_paths.fold_folder(1, "a", 0) / "history.csv").unlink()
    assert [path.name for path in __main__.draw_pictures(recipe, prepared_paths)] == NAMES[:2]
    assert sorted(path.name for path in folder.iterdir()) == NAMES[:2]


def test_before_the_data_is_prepared_it_names_the_step(recipe, tmp_path):
    with pytest.raises(UsageError, match="made by: prepare"):
        __main__.draw_pictures(recipe, recipe.build_paths(tmp_path))
