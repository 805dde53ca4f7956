"""What the tests of stage 2 share: a recipe, its data, and a folder for members of their own."""

import shutil

import pytest
import yaml

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box
from cxr.paths import Paths
from cxr.recipe import Recipe
from stage2_segment import config
from stage2_segment.data import SegmenterData

SMALL = {
    "architecture": "unet", "encoder": "tu-mobilenetv2_050", "decoder_channels": [16, 8, 8, 8, 8],
    "view": {"size": 32, "crop": "full"}, "training": {"epochs": 1, "batch": 4, "lr": 0.001},
}  # fmt: skip


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="r", about="a test", prepared_size=64, folds=2, subfolds=2, stage0="smoke", stage1=[], stage2=["smoke"],
        stage3="smoke",
    )  # fmt: skip


@pytest.fixture
def paths(prepared_paths) -> Paths:
    return prepared_paths


@pytest.fixture
def data(paths) -> SegmenterData:
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    ids = prepared.folds["image_id"].tolist()
    return SegmenterData(prepared, dict.fromkeys(ids, Box(4, 8, 60, 56)), config.read_member("smoke"), ids, 1)


@pytest.fixture
def member(tmp_path, monkeypatch):
    """A function that writes a member's YAML into a folder of the test's own, small but for what is given; reads it."""
    folder = tmp_path / "configs of a test"
    shutil.copytree(config.CONFIGS, folder)
    monkeypatch.setattr(config, "CONFIGS", folder)

    def write(name: str, **settings: object) -> config.SegmenterConfig:
        start = {} if "start_from" in settings else {"weights": "random"}
        values = {key: value for key, value in (SMALL | start | settings).items() if value is not None}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
        return config.read_member(name)

    return write
