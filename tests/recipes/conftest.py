"""A dozen phantom patients, prepared and boxed once for all recipes."""

import sys
from pathlib import Path

import pytest

from cxr.prepare import PrepareConfig, prepare
from cxr.recipe import read
from phantom.config import SMOKE, default_config
from phantom.make import make
from stage0_bbox import train as boxes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def prepared_home(tmp_path_factory: pytest.TempPathFactory):
    """Environment of a smoke trial whose data lie ready: what its stages need to run on."""
    place = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        environment = {"CXR_HOME": place / "home", "DATA": place / "smoke", "SMOKE": "1", "CXR_WORKERS": "0"}
        for key, value in environment.items():
            patch.setenv(key, str(value))
        patch.setenv("RECIPE", str(ROOT / "recipes" / "dw_hwang.yaml"))
        make(place / "smoke", default_config().model_copy(update=SMOKE))
        recipe = read(ROOT / "recipes" / "dw_hwang.yaml")
        paths = recipe.paths(place / "smoke")
        numbers = {"size": recipe.prepared_size, "folds": recipe.folds, "subfolds": recipe.subfolds}
        prepare(paths, PrepareConfig(**numbers, seed=recipe.seed), workers=1)
        patch.setattr(sys, "argv", ["stage0_bbox.train"])
        boxes.main()
        yield place
