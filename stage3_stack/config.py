"""Settings of stage 3, and its units of work; all that the pipeline imports of it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cxr.config import Strict, load
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.recipe import Recipe

ROOM = "stage3_stack"
STEP = "stage 3 (cd stage3_stack && bash run.sh)"
CONFIGS = Path(__file__).parent / "configs"
MADE = (
    "heads.npz", "search.npz", "stacked.parquet", "cases.parquet", "scores.parquet", "panel.json", "leaks.json",
)  # fmt: skip
"""What stage 3 leaves in its folder, beside decision.json."""
STACK = ("cxr.panel", "stage3_stack.columns", "stage3_stack.data", "stage3_stack.stack")
"""What the classifiers' stack is made and judged by: the mask stack, which asks it for the groups alone, is not."""
MASK_COST = 0.15  # seconds that an image of 256 x 256 costs in the mask stacker's training, on two cores

Stacker = Literal["dense", "mean", "logistic", "lightgbm", "auto"]
Column = Literal["pca", "header", "box", "masks"]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Exact = Literal["exact"]
Quantiles = Annotated[dict[Literal["quantiles"], PositiveInt], Field(min_length=1)]


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
    """The stacker of gradient-boosted trees."""

    columns: list[Column] = Field(["pca", "header", "box", "masks"], min_length=1)
    """What it sees. pca: the components that the dense head has; header: age, sex, view; box: place and size of the
    chest box, where there are boxes; masks: statistics of the segmenters' mean map, where there are segmenters."""
    trees: PositiveInt = 100
    leaves: int = Field(7, ge=2)
    lr: PositiveFloat = 0.05
    least_rows: PositiveInt = 10
    """Rows in a leaf."""


class MaskStackerConfig(Strict):
    """The rank-47 solution's net over the members' maps and the image, added to the logit of their mean."""

    width: PositiveInt = 32
    layers: PositiveInt = 3
    """3x3 convolutions of this width, with ReLU, before the last one of 1x1."""
    steps: PositiveInt = 2000
    batch: PositiveInt = 4
    lr: PositiveFloat = 3e-4
    positive_share: float = Field(0.5, gt=0, lt=1)
    """Share of images with a pneumothorax in each batch."""


class ZoneConfig(Strict):
    """The probabilities between which an image is called inconclusive: low and high, or the accuracy to reach."""

    low: Probability | None = None
    high: Probability | None = None
    accuracy: Probability | None = None
    """Takes the narrowest zone with this accuracy on the rest, chosen nested as the thresholds are."""

    @model_validator(mode="after")
    def _one_way(self) -> "ZoneConfig":
        edges = (self.low, self.high)
        if (None in edges) == (self.accuracy is None) or (self.accuracy is not None and edges != (None, None)):
            raise ValueError("give either low and high, or accuracy alone")
        if self.accuracy is None and self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class GridConfig(Strict):
    """Every decision that is tried; scores are probabilities, areas pixels of an image of reference_size squared.

    With one value in each list nothing is chosen: published thresholds as they are.
    """

    tops: Exact | Annotated[list[Share], Field(min_length=1)]
    """A mask is drawn only where enough pixels score above this; exact: every level of the 8-bit maps."""
    least_areas: Exact | Annotated[list[NonNegativeInt], Field(min_length=1)]
    """How many pixels that is; exact: every area that an image has."""
    bottoms: Exact | Annotated[list[Share], Field(min_length=1)]
    """The mask is then the pixels that score above this; exact: every level of the 8-bit maps."""
    gates: Quantiles | Annotated[list[Probability], Field(min_length=1)] = [0.0]
    """And only where the stacked classifier's probability reaches this. {quantiles: n}: n evenly spaced quantiles of
    the probabilities of the images that the gate is chosen on, and 0, no gate."""
    label_gates: list[Probability] = Field([0.0], min_length=1)
    """And only where the mean probability of the segmenters' own label heads reaches this; 0 asks nothing of them."""
    least_components: list[NonNegativeFloat] = Field([0.0], min_length=1)
    """Connected parts of the mask with fewer pixels are dropped one by one."""
    reference_size: PositiveInt = 1024
    """Side of the image whose pixels the areas are."""

    @model_validator(mode="after")
    def _countable(self) -> "GridConfig":
        if self.bottoms == "exact" and any(self.least_components):
            raise ValueError("least_components: bottoms are then counted one by one, so list them; 'exact' is too many")
        return self

    @property
    def chooses(self) -> bool:
        """Whether there is more than one decision."""
        lists = (self.tops, self.least_areas, self.bottoms, self.gates, self.label_gates, self.least_components)
        return not all(isinstance(values, list) and len(values) == 1 for values in lists)


class OperatingPointConfig(Strict):
    """What the gate is chosen by, one of these; Kaggle's Dice where none is named."""

    kaggle_dice: Literal[True] | None = None
    """The gate of grid.gates with the best mean Dice."""
    specificity: Probability | None = None
    """The lowest gate with at least this share of the negatives below it."""
    sensitivity: Probability | None = None
    """The highest gate with at least this share of the positives at or above it."""
    f_beta: PositiveFloat | None = None
    """The gate with the best F-score; recall weighs this many times as much as precision."""

    @model_validator(mode="after")
    def _one(self) -> "OperatingPointConfig":
        if len(self.asked) > 1:
            raise ValueError(f"{' and '.join(self.asked)}: give one of them")
        return self

    @property
    def asked(self) -> dict[str, float]:
        """The one that is given, by its name; none for Kaggle's Dice."""
        return self.model_dump(exclude_none=True)

    @property
    def by_labels(self) -> bool:
        """Whether the gate is chosen by labels and probabilities alone, and not by masks."""
        return bool(self.asked.keys() - {"kaggle_dice"})


class Config(Strict):
    """One file of configs/."""

    stacker: Stacker = "dense"
    """auto: the best on held-out rows, by AUC, then by log-loss."""
    calibration: Literal["platt", "temperature", "isotonic"] = "platt"
    """From logits to probabilities, nested: slope and intercept; a slope alone; rising steps, which make ties."""
    least_per_class: PositiveInt = 5
    """Training rows of either class below which a head is not trained, and gives the members' mean logit."""
    dense: DenseConfig
    lightgbm: LightgbmConfig = LightgbmConfig()
    masks: Literal["mean", "stacker"] = "mean"
    """The map that the final masks come from: the members' mean, or the mask stacker's."""
    mask_stacker: MaskStackerConfig = MaskStackerConfig()
    grid: GridConfig
    operating_point: OperatingPointConfig = OperatingPointConfig()
    """What the gate is chosen by; top, least area and bottom are then the best by Kaggle's Dice at that gate."""
    prevalence: float | None = Field(None, gt=0, lt=1)
    """Of a pneumothorax where the predictive values are to hold; by default that among the images."""
    zone: ZoneConfig | None = None
    """The inconclusive zone; it changes no mask, the table tells what it sets aside."""

    @model_validator(mode="after")
    def _one_gate(self) -> "Config":
        others = [name for name in ("gates", "label_gates") if getattr(self.grid, name) != [0]]
        if self.operating_point.by_labels and others:
            raise ValueError(f"operating_point: {next(iter(self.operating_point.asked))} sets the gate, and "
                             f"grid.{others[0]} asks for another; set grid.{others[0]} to [0]")  # fmt: skip
        return self


class MaskUnitConfig(Strict):
    """All settings that the stacked maps depend on."""

    stacker: MaskStackerConfig
    segmenters: list[str]
    folds: int
    trained: list[int]
    seed: int


class UnitConfig(Strict):
    """All settings that the results of stage 3 depend on."""

    config: Config
    members: list[str]
    segmenters: list[str]
    folds: int
    trained: list[int]
    seed: int


def read(recipe: Recipe) -> Config:
    """The settings that a recipe names, made small where the recipe is.

    Raises UsageError where they do not fit the recipe's members.
    """
    path = CONFIGS / f"{recipe.stage3}.yaml"
    config = load(path, Config)
    if not recipe.stage1 and not recipe.stage2:
        raise UsageError(f"recipe {recipe.name}: stage1 and stage2 are both empty, so stage 3 has nothing to stack")
    if config.masks == "stacker" and not recipe.stage2:
        raise UsageError(f"{path}: key 'masks': stacker needs segmenters, and recipe {recipe.name} has none; say mean")
    return config if recipe.small is None else _small(config, recipe.small.steps)


def _small(config: Config, steps: int) -> Config:
    few = {name: _at_most(getattr(config, name), steps) for name in ("dense", "mask_stacker")}
    return config.model_copy(update=few | {"least_per_class": min(config.least_per_class, 2)})


def _at_most(head: Strict, steps: int) -> Strict:
    return head.model_copy(update={"steps": min(head.steps, steps)})


def units(recipe: Recipe, paths: Paths) -> list[Unit]:
    """The mask stack, where one is asked for, and the stack."""
    config = read(recipe)
    stacked = [mask_unit(recipe, paths, config)] if config.masks == "stacker" else []
    return [*stacked, unit(recipe, paths, config)]


def unit(recipe: Recipe, paths: Paths, config: Config) -> Unit:
    """Stage 3 with these settings."""
    settings = UnitConfig(
        config=config, members=recipe.stage1, segmenters=recipe.stage2,
        folds=recipe.folds, trained=recipe.trained, seed=recipe.seed,
    )  # fmt: skip
    inputs = (*_stage1(recipe, paths), *_stage2(recipe, paths), *_data(recipe, paths), *_optional(paths, config))
    return Unit(
        name="stage 3", room=ROOM, command=("stage3_stack.train",), folder=paths.stage3, config=settings,
        inputs=inputs, work=20.0 + 5.0 * len(recipe.trained), disk=20 << 20,
        outputs=(*(paths.stage3 / name for name in MADE), paths.submission), editable=(paths.stage3 / "decision.json",),
    )  # fmt: skip


def mask_unit(recipe: Recipe, paths: Paths, config: Config) -> Unit:
    """The nets over the segmenters' maps, and the maps that they write."""
    settings = MaskUnitConfig(
        stacker=config.mask_stacker, segmenters=recipe.stage2,
        folds=recipe.folds, trained=recipe.trained, seed=recipe.seed,
    )  # fmt: skip
    pictures = [paths.prepared / name for name in ("index.parquet", "pixels.npy", "masks.npy")]
    tables = [paths.prepared / "manifest.parquet", paths.folds]
    side = recipe.small.size if recipe.small else recipe.prepared_size // 2  # members often see half the size
    nets = recipe.trained if len(recipe.trained) > 1 else range(recipe.subfolds)
    files = [f"net{net}/{name}" for net in nets for name in ("weights.safetensors", "history.csv")]
    return Unit(
        name="stage 3 mask stack", room=ROOM, command=("stage3_stack.mask_train",), folder=stacked_maps(paths),
        config=settings, inputs=(*_stage2(recipe, paths), *pictures, *tables), gpu=True,
        work=MASK_COST * len(nets) * config.mask_stacker.steps * config.mask_stacker.batch * (side / 256) ** 2,
        disk=paths.prepared_images * side**2,
        outputs=tuple(stacked_maps(paths) / name for name in ("maps.npy", "index.parquet", *files)),
        but_not=STACK,
    )  # fmt: skip


def _stage1(recipe: Recipe, paths: Paths) -> list[Path]:
    folders = [paths.unit(1, member, fold) for member in recipe.stage1 for fold in recipe.trained]
    return [folder / name for folder in folders for name in ("predictions.parquet", "features.npz")]


def _stage2(recipe: Recipe, paths: Paths) -> list[Path]:
    folders = [map_folder(paths, member, fold) for member in recipe.stage2 for fold in (*recipe.trained, None)]
    return [folder / name for folder in folders for name in ("maps.npy", "index.parquet")]


def _data(recipe: Recipe, paths: Paths) -> list[Path]:
    given = [test_truth(paths.data), chest_tubes(paths.data)]
    prepared = [paths.prepared / name for name in ("manifest.parquet", "index.parquet", "pixels.npy", "sample.json")]
    return [*prepared, paths.folds, *filter(None, given)]


def _optional(paths: Paths, config: Config) -> list[Path]:
    """The mask stacker's maps and the chest boxes, where they are used."""
    stacked = [stacked_maps(paths) / name for name in ("maps.npy", "index.parquet")]
    boxes = "box" in config.lightgbm.columns and paths.boxes.is_file()
    return [*(stacked if config.masks == "stacker" else []), *([paths.boxes] if boxes else [])]


def stacked_maps(paths: Paths) -> Path:
    """Where the mask stacker's maps lie, of held-out and of test images together."""
    return paths.stage3 / "maps"


def map_folder(paths: Paths, member: str, fold: int | None) -> Path:
    """Where a segmenter's maps lie: of a fold's held-out images or, with None, of the test images."""
    return paths.run / "stage2" / member / "test" if fold is None else paths.unit(2, member, fold)


def test_truth(data: Path) -> Path | None:
    """The test images' own masks, which phantoms have and a competition has not."""
    path = data / "test-truth.csv"
    return path if path.is_file() else None


def chest_tubes(data: Path) -> Path | None:
    """In which images a chest tube is seen; None where nobody knows."""
    path = data / "chest_tubes.csv"
    return path if path.is_file() else None
