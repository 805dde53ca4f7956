"""The rates of every published system's members, as the training computes them, against what was published."""

import numpy as np
import pytest
import torch

from cxr import recipe
from cxr.paths import ROOT
from cxr.torchkit import optimizers
from cxr.training.schedule import SchedulePosition, lr_factor
from cxr.training.settings import Training
from stage1_classify import config as classify
from stage1_classify.timm_members import network
from stage2_segment import config as segment
from stage3_stack import config as stack

SYSTEMS = ("dw_hwang", "dw_hwang_keras", "reyvaz", "nguyen", "prasadsawant", "erinqhu", "sneddy", "amirassov")
RECIPES = {name: recipe.read_recipe(ROOT / "recipes" / f"{name}.yaml") for name in SYSTEMS}
TRAININGS = {
    name: member.training
    for found in RECIPES.values() for stage in (classify, segment) for name, member in stage.read_members(found).items()
}  # fmt: skip
# First letters of members' names: optimizer, peak rate, epochs, images a step.
PUBLISHED = {
    "eff": ("adam", 3e-4, 30, 28), "xception": ("adam", 3e-5, 30, 28), "unet": ("adam", 3e-4, 40, 12),
    "reyvaz_b2_1024": ("nadam", 3e-4, 30, 32), "reyvaz_b3_1024": ("nadam", 3e-4, 30, 32),
    "reyvaz_b4_1024": ("nadam", 3e-4, 30, 32), "reyvaz_b4_512": ("nadam", 3e-4, 30, 64),
    "reyvaz_unet": ("radam", 3e-3, 30, 32), "nguyen": ("adam", 5e-4, 100, 32),
    "prasadsawant": ("adam", 1e-3, 100, 32), "erinqhu_vgg16": ("adam", 1e-4, 10, 32),
    "erinqhu_resnet34": ("adam", 1e-4, 6, 64),
}  # fmt: skip


def named(start: str):
    """A test of each training whose member's name begins so."""
    found = {name: training for name, training in TRAININGS.items() if name.startswith(start)}
    return pytest.mark.parametrize("training", found.values(), ids=found.keys())


def rates(training: Training, done: float = 0.0) -> np.ndarray:
    """The rate in each epoch, after this share of its batches."""
    return training.lr * np.array(
        [lr_factor(training, SchedulePosition(epoch, done)) for epoch in range(training.epochs)]
    )


def plateau_rates(training: Training, scores: list[float]) -> list[float]:
    """The rate after each watched score."""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=training.lr)
    plateau, found = optimizers.build_plateau_scheduler(optimizer, training), []
    for score in scores:
        plateau.step(score)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@named("")
def test_every_members_optimizer_peak_length_and_images_a_step(training):
    name = next(name for name, each in TRAININGS.items() if each is training)
    own = [figures for start, figures in PUBLISHED.items() if name.startswith(start)]
    found = (training.optimizer, training.lr, training.epochs, training.batch * training.accumulate)
    assert own == [found] or (not own and name.startswith(("sneddy", "amirassov")))


@pytest.mark.parametrize("name", ["effb4_crop", "effb4_full", "xception_crop", "effb4_crop_keras", "effb4_full_keras",
                                  "xception_crop_keras"])  # fmt: skip
def test_dw_hwangs_classifiers_halve_their_rate_on_a_plateau(name):
    training = TRAININGS[name]
    found = np.array(plateau_rates(training, [0.5, 0.4, 0.4, 0.6, 0.5, 0.5])) / training.lr
    assert found.tolist() == [1, 1, 0.5, 0.5, 0.5, 0.25]  # one epoch is let pass
    assert training.early_stop == 10


@named("unet")
def test_dw_hwangs_segmenters_keep_their_rate(training):
    assert set(rates(training)) == {3e-4}


def test_dw_hwangs_stack_has_twenty_epochs():
    dense = stack.read_stack_settings(RECIPES["dw_hwang"]).dense
    assert (dense.lr, dense.batch, dense.steps) == (3e-4, 28, 20 * 57)


@pytest.mark.parametrize("name", RECIPES["reyvaz"].stage1)
def test_reyvazs_classifiers_hold_their_peak_to_epoch_six(name):
    found = rates(TRAININGS[name])
    assert found[:7] == pytest.approx([3e-4] * 7)
    assert found[7:9] == pytest.approx([2.99e-4 * 0.8 + 1e-6, 2.99e-4 * 0.64 + 1e-6])
    assert found.sum() / 3e-4 == pytest.approx(11.0, abs=0.05)
    assert found[-1] == pytest.approx(2.99e-4 * 0.8**23 + 1e-6)
    assert (rates(TRAININGS[name], done=0.9) == found).all()  # by the epoch


@named("reyvaz_unet")
def test_reyvazs_segmenters_rise_hold_and_fall(training):
    found = rates(training)
    assert found[:9] == pytest.approx([3e-4, 1.2e-3, 2.1e-3, *[3e-3] * 5, 2.999e-3 * 0.8 + 1e-6])
    assert found[-1] == pytest.approx(2.999e-3 * 0.8**22 + 1e-6)
    assert (rates(training, done=0.9) == found).all()


@pytest.mark.parametrize("name", ["nguyen_resnet50", "nguyen_seresnext50", "prasadsawant_fcn", "erinqhu_vgg16"])
def test_no_schedule_was_published_and_none_is_made(name):
    assert set(rates(TRAININGS[name])) == {TRAININGS[name].lr}


def test_prasadsawant_clips_each_element():
    assert (TRAININGS["prasadsawant_fcn"].clip_value, TRAININGS["prasadsawant_fcn"].clip) == (0.9, None)


def test_erinqhus_resnet_trains_its_head_then_all_by_layers_in_one_cycle():
    training = TRAININGS["erinqhu_resnet34"]
    assert training.head_first == 1
    course = [rates(training, done) for done in np.linspace(0, 0.99, 100)]
    assert np.max(course, axis=0)[[0, 2]] == pytest.approx(1e-4)  # the head's own cycle; 30 % of the other five epochs
    assert course[0][[1, 2]] == pytest.approx([4e-6, 7.6e-5], rel=0.02)  # from 1/25; half-way up the cosine
    assert course[-1][5] < 1e-7
    member = classify.read_member("erinqhu_resnet34").model_copy(update={"weights": None})
    groups = optimizers.build_optimizer(network.build_classifier(member), training).param_groups
    assert [groups[0]["lr"], groups[1]["lr"]] == pytest.approx([1e-4, 1e-6])  # the head, the first layers
    between = [group["lr"] for group in groups[1:]]
    assert between == sorted(between)
    assert np.ptp(np.diff(np.log(between))) < 1e-9  # in equal ratios


@pytest.mark.parametrize("encoder", ["resnet34", "resnet50", "seresnext50"])
def test_sneddys_parts_are_two_plateaus_and_two_cosines(encoder):
    first, second, last = (TRAININGS[f"sneddy_{encoder}{part}"] for part in ("_512", "_1024", ""))
    assert [(part.lr, part.schedule) for part in (first, second)] == [(1e-3, "plateau"), (1e-4, "plateau")]
    assert all(10 <= part.epochs <= 12 for part in (first, second))
    assert (first.head_first, second.head_first, last.head_first) == (0, 2, 0)  # 1024: the encoder is frozen first
    for part in (first, second):  # its configuration: by ten after three epochs, to 1e-7
        shares = np.array(plateau_rates(part, [0.5] * 4 + [0.6] + [0.5] * 3)) / part.lr
        assert shares == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])
        assert plateau_rates(part, [0.5] * 40)[-1] == pytest.approx(1e-7)
    found, half = rates(last), last.epochs // 2
    assert found[[0, half]] == pytest.approx([1e-5, 1e-5])
    assert found[[half // 2, half + half // 2]] == pytest.approx([5.05e-6] * 2)
    assert rates(last, done=1 - 1e-9)[[half - 1, -1]] == pytest.approx([1e-7] * 2, rel=1e-3)
    assert 10 <= half <= 12


def test_four_checkpoints_of_the_fourth_place_and_three_of_the_first():
    averaged = {name: training.top for name, training in TRAININGS.items() if training.keep == "average"}
    assert averaged == {name: 4 if name.startswith("amir") else 3 for name in TRAININGS if name[:4] in ("amir", "sned")}
