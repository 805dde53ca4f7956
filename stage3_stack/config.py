"""Settings of stage 3, and its unit of work; all that the pipeline imports of it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from cxr import kaggle
from cxr.config import Strict, load
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.recipe import Recipe

ROOM = "stage3_stack"
STEP = "stage 3 (cd stage3_stack && bash run.sh)"
CONFIGS = Path(__file__).parent / "configs"

Stacker = Literal["dense", "mean", "logistic", "lightgbm", "auto"]
Share = Annotated[float, Field(ge=0, lt=1)]


class DenseConfig(Strict):
    """The dense head: PCA components -> width (ReLU) -> 1, added to the members' mean logit."""

    width: PositiveInt = 28
    components: PositiveInt = 32
    """Principal components of the standardised features; at most a quarter of a head's training rows."""
    lr: PositiveFloat = 3e-4
    batch: PositiveInt = 28
    steps: NonNegativeInt
    """Steps, not epochs: a head on few rows would otherwise stop too early, one on many overfit."""
    weight_decay: float = 0.1


class LightgbmConfig(Strict):
    """The baseline of gradient-boosted trees on principal components, age, sex and view."""

    trees: PositiveInt = 100
    leaves: int = Field(7, ge=2)
    lr: PositiveFloat = 0.05
    least_rows: PositiveInt = 10
    """Rows in a leaf."""


class GridConfig(Strict):
    """Every decision that is tried; scores are probabilities, areas pixels of a 1024x1024 image."""

    tops: list[Share] = Field(min_length=1)
    """A mask is drawn only where enough pixels score above this."""
    least_areas: list[NonNegativeInt] = Field(min_length=1)
    """How many pixels that is."""
    bottoms: list[Share] = Field(min_length=1)
    """The mask is then the pixels that score above this."""
    gates: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    """And only where the stacked classifier's probability reaches this."""


class Config(Strict):
    """One file of configs/."""

    stacker: Stacker = "dense"
    """auto: the best on held-out rows, by AUC, then by log-loss."""
    least_per_class: PositiveInt = 5
    """Training rows of either class below which a head is not trained, and gives the members' mean logit."""
    dense: DenseConfig
    lightgbm: LightgbmConfig = LightgbmConfig()
    grid: GridConfig


class UnitConfig(Strict):
    """All settings that the results of stage 3 depend on."""

    config: Config
    members: list[str]
    segmenters: list[str]
    folds: int
    trained: list[int]
    seed: int


def read(recipe: Recipe) -> Config:
    """The settings that a recipe names."""
    return load(CONFIGS / f"{recipe.stage3}.yaml", Config)


def units(recipe: Recipe, paths: Paths) -> list[Unit]:
    """The one unit of stage 3."""
    return [unit(recipe, paths, read(recipe))]


def unit(recipe: Recipe, paths: Paths, config: Config) -> Unit:
    """Stage 3 with these settings."""
    settings = UnitConfig(
        config=config, members=recipe.stage1, segmenters=recipe.stage2,
        folds=recipe.folds, trained=recipe.trained, seed=recipe.seed,
    )  # fmt: skip
    inputs = (*_stage1(recipe, paths), *_stage2(recipe, paths), *_data(recipe, paths))
    return Unit(
        name="stage 3", room=ROOM, command=("stage3_stack.train",), folder=paths.stage3, config=settings,
        inputs=inputs, work=20.0 + 5.0 * len(recipe.trained), disk=20 << 20,
    )  # fmt: skip


def _stage1(recipe: Recipe, paths: Paths) -> list[Path]:
    folders = [paths.unit(1, member, fold) for member in recipe.stage1 for fold in recipe.trained]
    return [folder / name for folder in folders for name in ("predictions.parquet", "features.npz")]


def _stage2(recipe: Recipe, paths: Paths) -> list[Path]:
    folders = [map_folder(paths, member, fold) for member in recipe.stage2 for fold in (*recipe.trained, None)]
    return [folder / name for folder in folders for name in ("maps.npy", "index.parquet")]


def _data(recipe: Recipe, paths: Paths) -> list[Path]:
    given = [sample(paths.data), test_truth(paths.data)]
    return [paths.prepared / "manifest.parquet", paths.folds(recipe.folds), *filter(None, given)]


def map_folder(paths: Paths, member: str, fold: int | None) -> Path:
    """Where a segmenter's maps lie: of a fold's held-out images or, with None, of the test images."""
    return paths.run / "stage2" / member / "test" if fold is None else paths.unit(2, member, fold)


def sample(data: Path) -> Path | None:
    """The sample submission that prepare, too, goes by; None where the data has none."""
    return kaggle.find(data).sample_csv if data.is_dir() else None


def test_truth(data: Path) -> Path | None:
    """The test images' own masks, which phantoms have and a competition has not."""
    path = data / "test-truth.csv"
    return path if path.is_file() else None
