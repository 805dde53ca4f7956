"""What the tests of stage 1 share: a recipe and its data. No framework is imported here."""

import pytest

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box
from cxr.paths import Paths
from cxr.recipe import Recipe
from stage1_classify import config
from stage1_classify.data import ClassifierData

RECIPE = Recipe(
    name="r", about="a test", prepared_size=64, folds=2, subfolds=2, stage0="smoke", stage1=["smoke"], stage2=[],
    stage3="smoke",
)  # fmt: skip


@pytest.fixture
def paths(prepared_paths) -> Paths:
    return prepared_paths


@pytest.fixture
def data(paths) -> ClassifierData:
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    ids = prepared.folds["image_id"].tolist()
    return ClassifierData(prepared, dict.fromkeys(ids, Box(4, 8, 60, 56)), config.read_member("smoke"), ids, 1)
