"""A dozen phantom patients, prepared and boxed once for all recipes."""

import shutil
import sys
from pathlib import Path

import pytest

from cxr.paths import Paths
from cxr.recipe import read_recipe
from phantom.config import SMOKE, default_config
from phantom.make import make_phantoms
from prepare.steps import PrepareConfig, prepare_data
from stage0_bbox import train as boxes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with data and home/, in which all that the members need lies ready."""
    place = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, place)
        patch.setenv("RECIPE", str(ROOT / "recipes" / "dw_hwang.yaml"))
        make_phantoms(place / "smoke", default_config().model_copy(update=SMOKE))
        recipe = read_recipe(ROOT / "recipes" / "dw_hwang.yaml")
        paths = recipe.build_paths(place / "smoke")
        numbers = {"size": recipe.prepared_size, "folds": recipe.folds, "subfolds": recipe.subfolds}
        prepare_data(paths, PrepareConfig(**numbers, seed=recipe.seed), workers=1)
        patch.setattr(sys, "argv", ["stage0_bbox.train"])
        boxes.main()
    return place


def take_boxes(paths: Paths) -> None:
    """Give a run the folds and the boxes that were made for all."""
    made = paths.artifacts_folder / "dw_hwang-smoke"
    for folder in ("folds", "stage0") if made != paths.run_folder else ():
        shutil.copytree(made / folder, paths.run_folder / folder, dirs_exist_ok=True)


@pytest.fixture
def prepared_home(home: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the environment of this test: a smoke trial."""
    use(monkeypatch, prepared)
    return prepared


def use(patch: pytest.MonkeyPatch, place: Path) -> None:
    environment = {"CXR_HOME": place / "home", "DATA": place / "smoke", "SMOKE": "1", "CXR_WORKERS": "0"}
    for key, value in environment.items():
        patch.setenv(key, str(value))
