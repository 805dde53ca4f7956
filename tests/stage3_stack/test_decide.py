"""What decision.json and search.npz tell of the choice is what the decisions score one by one."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from cxr.errors import UsageError
from stage3_stack import decide
from stage3_stack.config import Config, GridConfig
from stage3_stack.thresholds import PLAIN, Counts, Decision, dices, drawn, level

COUNT = 40
GROUP = np.arange(COUNT) % 4
LISTS = GridConfig(tops=[0.3, 0.7], least_areas=[0, 20, 45], bottoms=[0.2, 0.5], gates=[0, 0.4], reference_size=10)


def world(seed: int = 0) -> tuple[Counts, np.ndarray, np.ndarray]:
    """Counts of 100 pixels an image, where maps tell something of the truth; probabilities; labels."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(COUNT) < 0.5).astype(float)
    above = np.sort(draw.integers(0, 60, (COUNT, 256)) // 10 * 10, axis=1)[:, ::-1]
    above = above * draw.integers(0, 2, (COUNT, 1)) + (30 * labels[:, None]).astype(int)
    truth = (labels * draw.integers(20, 60, COUNT)).astype(int)
    overlap = np.minimum(above * 4 // 5, truth[:, None])
    counts = Counts(above, overlap, truth, np.full(COUNT, np.nan), truth, {}, np.full(COUNT, 100))
    return counts, np.clip(0.2 * labels + draw.random(COUNT) * 0.7, 0, 1).round(2), labels


def chosen(tmp_path: Path, grid: GridConfig = LISTS, counts: bool = True, **settings) -> tuple[decide.Decisions, dict]:
    """The decisions, and what is written of them."""
    seen, prob, labels = world()
    config = Config(dense={"steps": 1}, grid=grid, **settings)
    found = decide.decide("fold", GROUP, seen if counts else None, prob, config, labels)
    decide.write(tmp_path / "decision.json", found, seen if counts else None, prob, GROUP, {"kind": "platt"})
    return found, json.loads((tmp_path / "decision.json").read_text())


def every(grid: GridConfig = LISTS) -> dict[Decision, float]:
    seen, prob, _ = world()
    lists = itertools.product(grid.tops, grid.least_areas, grid.bottoms, grid.gates)
    return {one: dices(one, seen, prob).mean() for one in (Decision(*each, reference_size=10) for each in lists)}


def test_the_flat_part_is_that_of_all_decisions_near_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr("stage3_stack.optimum.FLAT", 0.02)
    _, record = chosen(tmp_path)
    scores = every()
    near = [one for one, score in scores.items() if score >= max(scores.values()) - 0.02]
    assert 1 < len(near) < len(scores)
    for name, (least, most) in record["search"]["flat"].items():
        values = [getattr(one, name) for one in near]
        assert (least, most) == (min(values), max(values)), name


def test_wandering_and_gain_are_those_of_the_groups_decisions(tmp_path):
    found, record = chosen(tmp_path)
    seen, prob, _ = world()
    for name, ends in record["search"]["wander"].items():
        values = [getattr(one, name) for one in found.groups.values()]
        assert ends == [min(values), max(values)]
    own = [dices(one, seen, prob)[k] for k, one in enumerate(found.of(GROUP))]
    plain = dices(PLAIN, seen, prob)
    assert record["search"]["nested"] == pytest.approx(np.mean(own))
    assert record["search"]["gain_over_plain"] == pytest.approx(np.mean(own) - plain.mean())
    assert record["search"]["all_empty"] == pytest.approx((seen.truth == 0).mean())
    assert record["calibration"] == {"kind": "platt"}


@pytest.mark.parametrize("exact", [False, True])
def test_the_searchs_file_holds_the_dice_around_the_decision(tmp_path, exact):
    every_one = dict.fromkeys(("tops", "least_areas", "bottoms"), "exact") | {"gates": {"quantiles": 5}}
    found, _ = chosen(tmp_path, LISTS.model_copy(update=every_one) if exact else LISTS)
    seen, prob, _ = world()
    test = found.test
    with np.load(tmp_path / "search.npz", allow_pickle=False) as stored:
        file = dict(stored)
    assert file["surface"].shape == ((256, 256) if exact else (2, 2))
    best = dices(test, seen, prob).mean()
    for area, score in zip(file["areas"], file["area_dice"], strict=True):
        assert score == pytest.approx(dices(test._replace(least_area=area), seen, prob).mean(), abs=1e-12)
    at = tuple(int(np.flatnonzero(file[f"{name}s"] == level(getattr(test, name)))[0]) for name in ("top", "bottom"))
    assert file["surface"][at] == pytest.approx(file["area_dice"].max())
    assert file["gate_dice"].max() + 1e-12 >= file["surface"].max() >= best - 1e-12
    assert file["gate_dice"][file["gates"] == test.gate] == pytest.approx(file["surface"].max())
    assert test.least_area in file["areas"]


def test_the_area_that_leaves_all_masks_empty_is_tried_but_none_is_beyond_an_image(tmp_path):
    grid = LISTS.model_copy(update={"least_areas": "exact"})
    found, _ = chosen(tmp_path, grid)
    seen, prob, _ = world()
    areas = np.load(tmp_path / "search.npz")["areas"]
    assert not drawn(found.test._replace(least_area=areas[-1]), seen, prob).any()
    assert drawn(found.test._replace(least_area=areas[-2]), seen, prob).any()


@pytest.mark.parametrize("without", ["maps", "choice"])
def test_without_a_search_an_earlier_ones_file_goes(tmp_path, without):
    chosen(tmp_path)
    fixed = GridConfig(tops=[0.3], least_areas=[20], bottoms=[0.2], gates=[0.4], reference_size=10)
    _, record = chosen(tmp_path, fixed, counts=without == "choice")
    assert not (tmp_path / "search.npz").exists()
    assert ("search" in record) == (without == "choice")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("counts", [True, False])
def test_the_operating_point_sets_every_gate_by_the_other_groups(tmp_path, counts):
    grid = LISTS.model_copy(update={"gates": [0.0]})
    found, record = chosen(tmp_path, grid, counts, operating_point={"specificity": 0.8})
    _, prob, labels = world()
    for key, decision in found.groups.items():
        others = (labels == 0) & (key != GROUP)
        assert (prob[others] < decision.gate).mean() >= 0.8
        lower = prob[others & (prob < decision.gate)].max()
        assert (prob[others] < lower).mean() < 0.8
    point, own = record["operating_point"], np.array([one.gate for one in found.of(GROUP)])
    assert point["asked"] == {"specificity": 0.8}
    assert point["specificity"] == pytest.approx((prob < found.test.gate)[labels == 0].mean())
    assert point["held_out"]["sensitivity"] == pytest.approx((prob >= own)[labels == 1].mean())


def test_an_operating_point_that_cannot_be_had_is_told(tmp_path, capsys):
    seen, prob, _ = world()
    config = Config(dense={"steps": 1}, grid=LISTS.model_copy(update={"gates": [0.0]}),
                    operating_point={"sensitivity": 0.9})  # fmt: skip
    found = decide.decide("fold", GROUP, seen, prob, config, np.zeros(COUNT))
    assert "stage 3 operating point of fold 2: no image with a pneumothorax" in capsys.readouterr().out
    assert found.point["said"]["test"].startswith("no image with a pneumothorax")
    assert {one.gate for one in found.groups.values()} == {0.5}


def test_the_triplet_is_the_best_at_the_operating_points_gate(tmp_path):
    found, _ = chosen(tmp_path, LISTS.model_copy(update={"gates": [0.0]}), operating_point={"f_beta": 1})
    scores = every(LISTS.model_copy(update={"gates": [found.test.gate]}))
    assert scores[found.test] >= max(scores.values()) - 0.5 / COUNT - 1e-9


def test_what_is_fixed_was_not_asked_for(tmp_path):
    fixed = GridConfig(tops=[0.5], least_areas=[0], bottoms=[0.5], gates=[0.4], reference_size=10)
    without_masks = {"counts": False, "operating_point": {"kaggle_dice": True}}
    for grid, settings, asked in ((fixed, {}, {}), (LISTS, without_masks, {}), (LISTS, {}, {"kaggle_dice": True})):
        assert chosen(tmp_path, grid, **settings)[1]["operating_point"]["asked"] == asked


@pytest.mark.parametrize(("key", "value", "words"), [
    ("top", 1.5, "within 0 and 1"), ("bottom", float("nan"), "within 0 and 1"), ("gate", -0.1, "within 0 and 1"),
    ("least_area", -1, "areas 0 and up"), ("least_area", float("inf"), "areas 0 and up"),
    ("reference_size", 0, "reference_size is the side"), ("top", 10**400, "needs the numbers"),
])  # fmt: skip
def test_an_edited_decision_that_means_nothing_is_refused(key, value, words, tmp_path):
    path = tmp_path / "decision.json"
    path.write_text(json.dumps({"test": PLAIN._asdict()}))
    assert decide.read_test(path) == PLAIN
    path.write_text(json.dumps({"test": PLAIN._asdict() | {key: value}}))
    with pytest.raises(UsageError, match=words):
        decide.read_test(path)
