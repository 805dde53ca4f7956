"""What decision.json and search.npz tell of the choice is what the decisions score one by one."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from cxr.errors import UsageError
from stage3_stack.config import Config, GridConfig
from stage3_stack.postprocessing import decision_file, nested_choice
from stage3_stack.postprocessing.nesting import HeldOutImages
from stage3_stack.postprocessing.thresholds import (
    PLAIN_PARAMS,
    LevelHistograms,
    PostprocessingParams,
    dice_per_image,
    has_mask,
    score_to_level,
)

COUNT = 40
GROUP = np.arange(COUNT) % 4
LISTS = GridConfig(
    top_score_thresholds=[0.3, 0.7],
    min_areas=[0, 20, 45],
    bottom_score_thresholds=[0.2, 0.5],
    probability_thresholds=[0, 0.4],
    reference_size=10,
)


def world(seed: int = 0) -> tuple[LevelHistograms, np.ndarray, np.ndarray]:
    """Counts of 100 pixels an image, where maps tell something of the truth; probabilities; labels."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(COUNT) < 0.5).astype(float)
    above = np.sort(draw.integers(0, 60, (COUNT, 256)) // 10 * 10, axis=1)[:, ::-1]
    above = above * draw.integers(0, 2, (COUNT, 1)) + (30 * labels[:, None]).astype(int)
    truth = (labels * draw.integers(20, 60, COUNT)).astype(int)
    overlap = np.minimum(above * 4 // 5, truth[:, None])
    counts = LevelHistograms(above, overlap, truth, np.full(COUNT, np.nan), truth, {}, np.full(COUNT, 100))
    return counts, np.clip(0.2 * labels + draw.random(COUNT) * 0.7, 0, 1).round(2), labels


def chosen(
    tmp_path: Path, grid: GridConfig = LISTS, counts: bool = True, **settings
) -> tuple[nested_choice.NestedPostprocessing, dict]:
    """The decisions, and what is written of them."""
    seen, prob, labels = world()
    config = Config(dense={"steps": 1}, grid=grid, **settings)
    images = HeldOutImages("fold", GROUP, seen if counts else None, prob, labels)
    found = nested_choice.choose_postprocessing(images, config)
    decision_file.write_decision(tmp_path / "decision.json", found, images, {"kind": "platt"})
    return found, json.loads((tmp_path / "decision.json").read_text())


def every(grid: GridConfig = LISTS) -> dict[PostprocessingParams, float]:
    seen, prob, _ = world()
    lists = itertools.product(
        grid.top_score_thresholds, grid.min_areas, grid.bottom_score_thresholds, grid.probability_thresholds
    )
    return {
        one: dice_per_image(one, seen, prob).mean()
        for one in (PostprocessingParams(*each, reference_size=10) for each in lists)
    }


def test_the_flat_part_is_that_of_all_decisions_near_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr("stage3_stack.postprocessing.search_report.NEAR_OPTIMAL_MARGIN", 0.02)
    _, record = chosen(tmp_path)
    scores = every()
    near = [one for one, score in scores.items() if score >= max(scores.values()) - 0.02]
    assert 1 < len(near) < len(scores)
    for name, (least, most) in record["search"]["near_optimal_range"].items():
        values = [getattr(one, name) for one in near]
        assert (least, most) == (min(values), max(values)), name


def test_wandering_and_gain_are_those_of_the_groups_decisions(tmp_path):
    found, record = chosen(tmp_path)
    seen, prob, _ = world()
    for name, ends in record["search"]["fold_spread"].items():
        values = [getattr(one, name) for one in found.group_params.values()]
        assert ends == [min(values), max(values)]
    own = [dice_per_image(one, seen, prob)[k] for k, one in enumerate(found.params_of_images(GROUP))]
    plain = dice_per_image(PLAIN_PARAMS, seen, prob)
    assert record["search"]["nested"] == pytest.approx(np.mean(own))
    assert record["search"]["gain_over_plain"] == pytest.approx(np.mean(own) - plain.mean())
    assert record["search"]["all_empty"] == pytest.approx((seen.truth_area == 0).mean())
    assert record["calibration"] == {"kind": "platt"}


@pytest.mark.parametrize("exact", [False, True])
def test_the_searchs_file_holds_the_dice_around_the_decision(tmp_path, exact):
    every_one = dict.fromkeys(("top_score_thresholds", "min_areas", "bottom_score_thresholds"), "exact")
    every_one |= {"probability_thresholds": {"quantiles": 5}}
    found, _ = chosen(tmp_path, LISTS.model_copy(update=every_one) if exact else LISTS)
    seen, prob, _ = world()
    test = found.test_params
    with np.load(tmp_path / "search.npz", allow_pickle=False) as stored:
        file = dict(stored)
    assert file["surface"].shape == ((256, 256) if exact else (2, 2))
    best = dice_per_image(test, seen, prob).mean()
    for area, score in zip(file["min_areas"], file["min_area_dice"], strict=True):
        assert score == pytest.approx(dice_per_image(test._replace(min_area=area), seen, prob).mean(), abs=1e-12)
    at = tuple(
        int(np.flatnonzero(file[name] == score_to_level(score))[0])
        for name, score in (("top_levels", test.top_score_threshold), ("bottom_levels", test.bottom_score_threshold))
    )
    assert file["surface"][at] == pytest.approx(file["min_area_dice"].max())
    assert file["probability_threshold_dice"].max() + 1e-12 >= file["surface"].max() >= best - 1e-12
    at_gate = file["probability_thresholds"] == test.probability_threshold
    assert file["probability_threshold_dice"][at_gate] == pytest.approx(file["surface"].max())
    assert test.min_area in file["min_areas"]


def test_the_area_that_leaves_all_masks_empty_is_tried_but_none_is_beyond_an_image(tmp_path):
    grid = LISTS.model_copy(update={"min_areas": "exact"})
    found, _ = chosen(tmp_path, grid)
    seen, prob, _ = world()
    areas = np.load(tmp_path / "search.npz")["min_areas"]
    assert not has_mask(found.test_params._replace(min_area=areas[-1]), seen, prob).any()
    assert has_mask(found.test_params._replace(min_area=areas[-2]), seen, prob).any()


@pytest.mark.parametrize("without", ["maps", "choice"])
def test_without_a_search_an_earlier_ones_file_goes(tmp_path, without):
    chosen(tmp_path)
    fixed = GridConfig(
        top_score_thresholds=[0.3],
        min_areas=[20],
        bottom_score_thresholds=[0.2],
        probability_thresholds=[0.4],
        reference_size=10,
    )
    _, record = chosen(tmp_path, fixed, counts=without == "choice")
    assert not (tmp_path / "search.npz").exists()
    assert ("search" in record) == (without == "choice")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("counts", [True, False])
def test_the_operating_point_sets_every_gate_by_the_other_groups(tmp_path, counts):
    grid = LISTS.model_copy(update={"probability_thresholds": [0.0]})
    found, record = chosen(tmp_path, grid, counts, operating_point={"specificity": 0.8})
    _, prob, labels = world()
    for key, decision in found.group_params.items():
        others = (labels == 0) & (key != GROUP)
        assert (prob[others] < decision.probability_threshold).mean() >= 0.8
        lower = prob[others & (prob < decision.probability_threshold)].max()
        assert (prob[others] < lower).mean() < 0.8
    point, own = (
        record["operating_point"],
        np.array([one.probability_threshold for one in found.params_of_images(GROUP)]),
    )
    assert point["target"] == {"specificity": 0.8}
    assert point["specificity"] == pytest.approx((prob < found.test_params.probability_threshold)[labels == 0].mean())
    assert point["held_out"]["sensitivity"] == pytest.approx((prob >= own)[labels == 1].mean())


def test_an_operating_point_that_cannot_be_had_is_told(tmp_path, capsys):
    seen, prob, _ = world()
    config = Config(dense={"steps": 1}, grid=LISTS.model_copy(update={"probability_thresholds": [0.0]}),
                    operating_point={"sensitivity": 0.9})  # fmt: skip
    images = HeldOutImages("fold", GROUP, seen, prob, np.zeros(COUNT))
    found = nested_choice.choose_postprocessing(images, config)
    assert "stage 3 operating point of fold 2: no image with a pneumothorax" in capsys.readouterr().out
    assert found.operating_point_record["problems"]["test"].startswith("no image with a pneumothorax")
    assert {one.probability_threshold for one in found.group_params.values()} == {0.5}


def test_the_triplet_is_the_best_at_the_operating_points_gate(tmp_path):
    found, _ = chosen(
        tmp_path, LISTS.model_copy(update={"probability_thresholds": [0.0]}), operating_point={"f_beta": 1}
    )
    scores = every(LISTS.model_copy(update={"probability_thresholds": [found.test_params.probability_threshold]}))
    assert scores[found.test_params] >= max(scores.values()) - 0.5 / COUNT - 1e-9


def test_what_is_fixed_was_not_asked_for(tmp_path):
    fixed = GridConfig(
        top_score_thresholds=[0.5],
        min_areas=[0],
        bottom_score_thresholds=[0.5],
        probability_thresholds=[0.4],
        reference_size=10,
    )
    without_masks = {"counts": False, "operating_point": {"kaggle_dice": True}}
    for grid, settings, asked in ((fixed, {}, {}), (LISTS, without_masks, {}), (LISTS, {}, {"kaggle_dice": True})):
        assert chosen(tmp_path, grid, **settings)[1]["operating_point"]["target"] == asked


@pytest.mark.parametrize(("key", "value", "words"), [
    ("top_score_threshold", 1.5, "within 0 and 1"), ("bottom_score_threshold", float("nan"), "within 0 and 1"),
    ("probability_threshold", -0.1, "within 0 and 1"), ("min_area", -1, "areas 0 and up"),
    ("min_area", float("inf"), "areas 0 and up"), ("reference_size", 0, "reference_size is the side"),
    ("top_score_threshold", 10**400, "needs the numbers"),
])  # fmt: skip
def test_an_edited_decision_that_means_nothing_is_refused(key, value, words, tmp_path):
    path = tmp_path / "decision.json"
    path.write_text(json.dumps({"test": PLAIN_PARAMS._asdict()}))
    assert decision_file.read_test_params(path) == PLAIN_PARAMS
    path.write_text(json.dumps({"test": PLAIN_PARAMS._asdict() | {key: value}}))
    with pytest.raises(UsageError, match=words):
        decision_file.read_test_params(path)
