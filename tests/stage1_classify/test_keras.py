"""Stage 1 in Keras: each test is a function of keras_*_checks.py; they all run in one process of their own."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.paths import ROOT, Paths
from prepare.steps import PrepareConfig, prepare_data
from tests.conftest import _kaggle_folder

RUN = """
from tests.stage1_classify import keras_cases, keras_network_checks, keras_training_checks
keras_cases.main(vars(keras_network_checks) | vars(keras_training_checks))
"""
ROOMS = [Path(__file__).with_name(f"keras_{part}_checks.py") for part in ("network", "training")]
CHECKS = [
    node.name for path in ROOMS for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.args.args
]  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, str | None]:
    """Each check's traceback, None where it passed."""
    home = tmp_path_factory.mktemp("keras checks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(home))
        environment = os.environ | {"CXR_CHECK_DATA": json.dumps(_prepared(home))}
        command = [sys.executable, "-c", RUN, home / "results.json", *CHECKS]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
    return json.loads((home / "results.json").read_text())


def _prepared(home: Path) -> dict:
    found = Paths(_kaggle_folder(home / "data", 8, 2, 3, True), "r", 64)
    prepare_data(found, PrepareConfig(size=64, folds=2, subfolds=2, seed=1), workers=1)
    ids = Prepared(found.prepared_folder, found.folds_csv).manifest["image_id"]
    box = {"xmin": 4.0, "xmax": 60.0, "ymin": 8.0, "ymax": 56.0, "score": 0.9, "source": "model"}
    tables.write_table(pd.DataFrame({"Filename": ids + ".png"} | box), found.boxes_csv, tables.BOXES)
    return {"data": str(found.data_folder), "recipe": found.recipe_name, "prepared_size": found.prepared_size}


@pytest.mark.parametrize("check", CHECKS)
def test_keras(check, results):
    assert results[check] is None, results[check]
