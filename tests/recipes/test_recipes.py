"""Every published system runs whole: its members at 64 x 64, one step, two folds, a dozen phantom patients."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cxr.paths import ROOT
from cxr.recipe import read_recipe
from cxr.runs import read_metrics
from pipeline.stages import list_steps
from stage2_segment import train as segment
from stage3_stack import train as stack
from stage3_stack.mask_stacker import train
from stage3_stack.results import table
from tests.recipes.conftest import take_boxes

SYSTEMS = ("dw_hwang", "reyvaz", "nguyen", "prasadsawant", "erinqhu", "sneddy", "amirassov")


@pytest.fixture(params=SYSTEMS)
def run(request, prepared_home: Path, monkeypatch: pytest.MonkeyPatch):
    """Recipe and paths of a system's trial, which takes the folds and boxes that were made for all."""
    path = ROOT / "recipes" / f"{request.param}.yaml"
    monkeypatch.setenv("RECIPE", str(path))
    recipe = read_recipe(path)
    paths = recipe.build_paths(prepared_home / "smoke")
    take_boxes(paths)
    return recipe, paths


def test_a_published_system_runs_whole(run, monkeypatch, capsys):
    recipe, paths = run
    if recipe.stage1:  # in a process of its own, as there are Keras members
        subprocess.run([sys.executable, "-m", "stage1_classify.train"], cwd=ROOT, check=True)
    for command in (segment.main, train.main, stack.main, table.main):
        monkeypatch.setattr(sys, "argv", ["trial"])
        command()
    for stage in ("stage1", "stage2", "stage3"):
        assert all(unit.is_up_to_date for unit in list_steps(stage, recipe, paths)), stage
    found = read_metrics(paths.stage3_folder)["held_out"]
    assert found["images"] == 23  # of 24 phantoms one has no row in the table
    assert 0 <= found["stack"]["auc"] <= 1
    if recipe.stage2:
        assert 0 <= found["kaggle_dice"] <= 1
        submission = pd.read_csv(paths.submission_csv, dtype=str)
        assert len(submission) == submission["ImageId"].nunique() == 8
    assert f"# {recipe.name} on smoke" in capsys.readouterr().out
