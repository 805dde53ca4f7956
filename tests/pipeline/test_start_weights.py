"""Start weights before any step: in a folder, fetched by the stages' checks, or one message and nothing done."""

import os
import shutil
import subprocess
import sys

import pytest

from cxr import recipe as recipes
from cxr.errors import UsageError
from cxr.paths import ROOT
from pipeline import start_weights

NAME = "mobilenetv2_100_imagenet.safetensors"
FILE = ROOT / "weights" / "phantom_mnv2.safetensors"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """recipes/real_small.yaml, which has to have ImageNet's MobileNetV2, on data of a stranger."""
    monkeypatch.delenv("WEIGHTS", raising=False)
    recipe = recipes.read_recipe(ROOT / "recipes" / "real_small.yaml")
    return recipe, recipe.build_paths(tmp_path / "data")


def refuse(*_) -> None:
    raise AssertionError("nobody is to be asked")


def test_a_file_in_the_users_folder_is_enough(run, monkeypatch, tmp_path):
    monkeypatch.setattr(start_weights.jobs, "run_module", refuse)
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    shutil.copy(FILE, tmp_path / NAME)
    start_weights.resolve_start_weights(*run)
    for step in start_weights.list_steps("stage1", *run):
        assert tmp_path / NAME in step.inputs


def test_a_hub_is_asked_once_for_all_members_and_folds(run, monkeypatch, home):
    commands, file = [], home / "artifacts" / "weights" / "timm" / NAME

    def fetch(_name, command):
        commands.append(command)
        file.parent.mkdir(parents=True)
        shutil.copy(FILE, file)

    monkeypatch.setattr(start_weights.jobs, "run_module", fetch)
    start_weights.resolve_start_weights(*run)
    start_weights.resolve_start_weights(*run)
    assert commands == [("stage1_classify.check", "--fetch")]
    assert len([step for step in start_weights.list_steps("stage1", *run) if file in step.inputs]) == 9


def test_all_that_is_missing_is_named_at_once(run, monkeypatch):
    monkeypatch.setattr(start_weights.jobs, "run_module", lambda *_: None)
    recipe = recipes.read_recipe(ROOT / "recipes" / "dw_hwang_keras.yaml")
    files = ["fasterrcnn_resnet50_fpn_v2_coco.safetensors", "EfficientNetB4_imagenet.h5", "Xception_imagenet.h5"]
    files += ["efficientnet_b4_imagenet.safetensors", "xception_imagenet.safetensors"]
    with pytest.raises(UsageError, match="weights: random") as caught:
        start_weights.resolve_start_weights(recipe, run[1])
    assert all(str(caught.value).count(file) == 1 for file in files)


def test_a_trial_in_small_asks_nobody(run, monkeypatch):
    monkeypatch.setattr(start_weights.jobs, "run_module", refuse)
    for path in (ROOT / "recipes").glob("*.yaml"):
        recipe = recipes.read_recipe(path).model_copy(update={"weights": "imagenet"}).smoke_trial()
        start_weights.resolve_start_weights(recipe, recipe.build_paths(run[1].data_folder))


def test_with_neither_folder_nor_hub_the_plan_ends_with_one_message_and_nothing_done(run, home, tmp_path):
    (tmp_path / "data").mkdir()
    recipe = {"RECIPE": str(ROOT / "recipes" / "real_small.yaml"), "DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.launch", "plan"], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | recipe | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: start weights are missing, so nothing was trained: put " + NAME)
    assert done.stdout.count("mobilenet_large.yaml: weights: imagenet: the hub (timm) gives none (") == 1
    assert "plan:" not in done.stdout
    assert [path for path in home.rglob("*") if path.is_file()] == []
