"""Members added as CONTRIBUTING.md tells, in a copy of the project: each is one file, and they run together."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.paths import ROOT, Paths
from pipeline.stages import STAGE_PACKAGES
from tests.recipes.conftest import take_boxes

FILE = re.compile(r"`([\w/]+\.yaml)`[^`]*```yaml\n(.*?)```", re.DOTALL)
NAMED = ("convnext_crop", "xception_full_keras", "unet_resnet18_full", "mine")
CODE = sorted(path.name for path in ROOT.iterdir() if any(path.glob("*.py")) and path.name not in ("tests", "weights"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's code in a folder of its own, with the files that CONTRIBUTING.md shows."""
    for room in ("recipes", *CODE):
        shutil.copytree(ROOT / room, tmp_path / "copy" / room, ignore=shutil.ignore_patterns("__pycache__"))
    found = dict(FILE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert sorted(Path(name).stem for name in found) == sorted(NAMED)
    for name, text in found.items():
        (tmp_path / "copy" / name).write_text(text, encoding="utf-8")
    return tmp_path / "copy"


def test_members_of_the_users_own_run(copy, prepared_home):
    paths = Paths(prepared_home / "smoke", "mine-smoke", 128)
    take_boxes(paths)
    recipe = {"RECIPE": str(copy / "recipes" / "mine.yaml"), "PYTHONPATH": ""}
    modules = ["stage1_classify.check", "stage2_segment.check"]
    for module in [*modules, *(f"{room}.train" for stage, room in STAGE_PACKAGES.items() if stage != "stage0")]:
        command = [sys.executable, "-m", module]
        done = subprocess.run(command, cwd=copy, env=os.environ | recipe, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(folder.name for folder in paths.run_folder.glob("stage[12]/*")) == sorted(NAMED[:3])
    assert paths.submission_csv.is_file()
