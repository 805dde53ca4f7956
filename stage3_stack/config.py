"""Settings of stage 3, and its units of work; all that the pipeline imports of it."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cxr.config import StrictModel, load_settings
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.recipe import Recipe
from cxr.step import Step

ROOM = "stage3_stack"
STAGE3 = "stage 3 (cd stage3_stack && bash run.sh)"
CONFIGS = Path(__file__).parent / "configs"
OUTPUT_NAMES = (
    "heads.npz", "search.npz", "stacked.parquet", "cases.parquet", "scores.parquet", "panel.json", "leaks.json",
)  # fmt: skip
"""What stage 3 leaves in its folder, beside decision.json."""
STACK_MODULES = (
    "evaluation.panel",
    "evaluation.ranking",
    "stage3_stack.stacking.tabular_features",
    "stage3_stack.stacking.fold_rows",
    "stage3_stack.stacking.cross_fitting",
)
"""What the classifiers' stack is made and judged by: the mask stack, which asks it for the groups alone, is not."""
RENAMED_DECISION_KEYS = {
    "top": "top_score_threshold", "least_area": "min_area", "bottom": "bottom_score_threshold",
    "gate": "probability_threshold", "label_gate": "label_head_threshold", "least_component": "min_component_area",
}  # fmt: skip
"""Keys that a decision of an earlier version has in decision.json, and what they are called now."""
MASK_COST = 0.15  # seconds that an image of 256 x 256 costs in the mask stacker's training, on two cores

Stacker = Literal["dense", "mean", "logistic", "lightgbm", "auto"]
Column = Literal["pca", "header", "box", "masks"]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Exact = Literal["exact"]
Quantiles = Annotated[dict[Literal["quantiles"], PositiveInt], Field(min_length=1)]


class DenseConfig(StrictModel):
    """The dense head: PCA components -> width (ReLU) -> 1, added to the members' mean logit."""

    width: PositiveInt = 28
    components: PositiveInt = 32
    """Principal components of the standardised features; at most a quarter of a head's training rows."""
    lr: PositiveFloat = 3e-4
    batch: PositiveInt = 28
    steps: NonNegativeInt
    """Steps, not epochs: a head on few rows would otherwise stop too early, one on many overfit."""
    weight_decay: float = 0.1


class LightgbmConfig(StrictModel):
    """The stacker of gradient-boosted trees."""

    columns: list[Column] = Field(["pca", "header", "box", "masks"], min_length=1)
    """What it sees. pca: the components that the dense head has; header: age, sex, view; box: place and size of the
    chest box, where there are boxes; masks: statistics of the segmenters' mean map, where there are segmenters."""
    trees: PositiveInt = 100
    leaves: int = Field(7, ge=2)
    lr: PositiveFloat = 0.05
    min_rows_per_leaf: PositiveInt = 10
    """Rows in a leaf."""
    renamed_keys: ClassVar = {"least_rows": "min_rows_per_leaf"}


class MaskStackerConfig(StrictModel):
    """The rank-47 solution's net over the members' maps and the image, added to the logit of their mean."""

    width: PositiveInt = 32
    layers: PositiveInt = 3
    """3x3 convolutions of this width, with ReLU, before the last one of 1x1."""
    steps: PositiveInt = 2000
    batch: PositiveInt = 4
    lr: PositiveFloat = 3e-4
    positive_share: float = Field(0.5, gt=0, lt=1)
    """Share of images with a pneumothorax in each batch."""


class ZoneConfig(StrictModel):
    """The probabilities between which an image is called inconclusive: low and high, or the accuracy to reach."""

    low: Probability | None = None
    high: Probability | None = None
    accuracy: Probability | None = None
    """Takes the narrowest zone with this accuracy on the rest, chosen nested as the thresholds are."""

    @model_validator(mode="after")
    def _check_one_way(self) -> "ZoneConfig":
        edges = (self.low, self.high)
        if (None in edges) == (self.accuracy is None) or (self.accuracy is not None and edges != (None, None)):
            raise ValueError("give either low and high, or accuracy alone")
        if self.accuracy is None and self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class GridConfig(StrictModel):
    """Every decision that is tried; scores are probabilities, areas pixels of an image of reference_size squared.

    With one value in each list nothing is chosen: published thresholds as they are.
    """

    top_score_thresholds: Exact | Annotated[list[Share], Field(min_length=1)]
    """A mask is drawn only where enough pixels score above this; exact: every level of the 8-bit maps."""
    min_areas: Exact | Annotated[list[NonNegativeInt], Field(min_length=1)]
    """How many pixels that is; exact: every area that an image has."""
    bottom_score_thresholds: Exact | Annotated[list[Share], Field(min_length=1)]
    """The mask is then the pixels that score above this; exact: every level of the 8-bit maps."""
    probability_thresholds: Quantiles | Annotated[list[Probability], Field(min_length=1)] = [0.0]
    """And only where the stacked classifier's probability reaches this. {quantiles: n}: n evenly spaced quantiles of
    the probabilities of the images that the gate is chosen on, and 0, no gate."""
    label_head_thresholds: list[Probability] = Field([0.0], min_length=1)
    """And only where the mean probability of the segmenters' own label heads reaches this; 0 asks nothing of them."""
    min_component_areas: list[NonNegativeFloat] = Field([0.0], min_length=1)
    """Connected parts of the mask with fewer pixels are dropped one by one."""
    reference_size: PositiveInt = 1024
    """Side of the image whose pixels the areas are."""
    renamed_keys: ClassVar = {
        "tops": "top_score_thresholds", "least_areas": "min_areas", "bottoms": "bottom_score_thresholds",
        "gates": "probability_thresholds", "label_gates": "label_head_thresholds",
        "least_components": "min_component_areas",
    }  # fmt: skip

    @model_validator(mode="after")
    def _check_countable(self) -> "GridConfig":
        if self.bottom_score_thresholds == "exact" and any(self.min_component_areas):
            raise ValueError(
                "min_component_areas: bottom_score_thresholds are then counted one by one, so list them; "
                "'exact' is too many"
            )
        return self

    @property
    def has_alternatives(self) -> bool:
        """Whether there is more than one decision."""
        lists = (
            self.top_score_thresholds,
            self.min_areas,
            self.bottom_score_thresholds,
            self.probability_thresholds,
            self.label_head_thresholds,
            self.min_component_areas,
        )
        return not all(isinstance(values, list) and len(values) == 1 for values in lists)


class OperatingPointConfig(StrictModel):
    """What the gate is chosen by, one of these; Kaggle's Dice where none is named."""

    kaggle_dice: Literal[True] | None = None
    """The gate of grid.probability_thresholds with the best mean Dice."""
    specificity: Probability | None = None
    """The lowest gate with at least this share of the negatives below it."""
    sensitivity: Probability | None = None
    """The highest gate with at least this share of the positives at or above it."""
    f_beta: PositiveFloat | None = None
    """The gate with the best F-score; recall weighs this many times as much as precision."""

    @model_validator(mode="after")
    def _check_one_target(self) -> "OperatingPointConfig":
        if len(self.target) > 1:
            raise ValueError(f"{' and '.join(self.target)}: give one of them")
        return self

    @property
    def target(self) -> dict[str, float]:
        """The one that is given, by its name; none for Kaggle's Dice."""
        return self.model_dump(exclude_none=True)

    @property
    def is_chosen_by_labels(self) -> bool:
        """Whether the gate is chosen by labels and probabilities alone, and not by masks."""
        return bool(self.target.keys() - {"kaggle_dice"})


class Config(StrictModel):
    """One file of configs/."""

    stacker: Stacker = "dense"
    """auto: the best on held-out rows, by AUC, then by log-loss."""
    calibration: Literal["platt", "temperature", "isotonic"] = "platt"
    """From logits to probabilities, nested: slope and intercept; a slope alone; rising steps, which make ties."""
    min_rows_per_class: PositiveInt = 5
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
    renamed_keys: ClassVar = {"least_per_class": "min_rows_per_class"}

    @model_validator(mode="after")
    def _check_one_probability_threshold(self) -> "Config":
        names = ("probability_thresholds", "label_head_thresholds")
        conflicting_keys = [name for name in names if getattr(self.grid, name) != [0]]
        if self.operating_point.is_chosen_by_labels and conflicting_keys:
            raise ValueError(
                f"operating_point: {next(iter(self.operating_point.target))} sets the gate, and "
                f"grid.{conflicting_keys[0]} asks for another; set grid.{conflicting_keys[0]} to [0]"
            )
        return self


class MaskUnitConfig(StrictModel):
    """All settings that the stacked maps depend on."""

    stacker: MaskStackerConfig
    segmenters: list[str]
    folds: int
    trained: list[int]
    seed: int


class UnitConfig(StrictModel):
    """All settings that the results of stage 3 depend on."""

    settings: Config
    members: list[str]
    segmenters: list[str]
    folds: int
    trained: list[int]
    seed: int


def read_stack_settings(recipe: Recipe) -> Config:
    """The settings that a recipe names, made small where the recipe is.

    Raises UsageError where they do not fit the recipe's members.
    """
    path = CONFIGS / f"{recipe.stage3}.yaml"
    settings = load_settings(path, Config)
    if not recipe.stage1 and not recipe.stage2:
        raise UsageError(f"recipe {recipe.name}: stage1 and stage2 are both empty, so stage 3 has nothing to stack")
    if settings.masks == "stacker" and not recipe.stage2:
        raise UsageError(f"{path}: key 'masks': stacker needs segmenters, and recipe {recipe.name} has none; say mean")
    return settings if recipe.small is None else _shrink_settings(settings, recipe.small.steps)


def _shrink_settings(settings: Config, steps: int) -> Config:
    fewer_steps = {name: _cap_steps(getattr(settings, name), steps) for name in ("dense", "mask_stacker")}
    return settings.model_copy(update=fewer_steps | {"min_rows_per_class": min(settings.min_rows_per_class, 2)})


def _cap_steps(part_settings: StrictModel, steps: int) -> StrictModel:
    return part_settings.model_copy(update={"steps": min(part_settings.steps, steps)})


def units(recipe: Recipe, paths: Paths) -> list[Step]:
    """The mask stack, where one is asked for, and the stack."""
    settings = read_stack_settings(recipe)
    mask_steps = [build_mask_step(recipe, paths, settings)] if settings.masks == "stacker" else []
    return [*mask_steps, build_stack_step(recipe, paths, settings)]


def build_stack_step(recipe: Recipe, paths: Paths, settings: Config) -> Step:
    """Stage 3 with these settings."""
    unit = UnitConfig(
        settings=settings, members=recipe.stage1, segmenters=recipe.stage2,
        folds=recipe.folds, trained=recipe.folds_to_train, seed=recipe.seed,
    )  # fmt: skip
    inputs = (
        *_stage1_files(recipe, paths),
        *_stage2_files(recipe, paths),
        *_data_files(recipe, paths),
        *_optional_files(paths, settings),
    )
    return Step(
        name="stage 3", room=ROOM, command=("stage3_stack.train",), folder=paths.stage3_folder, settings=unit,
        inputs=inputs, work_seconds=20.0 + 5.0 * len(recipe.folds_to_train), disk_bytes=20 << 20,
        outputs=(*(paths.stage3_folder / name for name in OUTPUT_NAMES), paths.submission_csv),
        editable_outputs=(paths.stage3_folder / "decision.json",),
    )  # fmt: skip


def build_mask_step(recipe: Recipe, paths: Paths, settings: Config) -> Step:
    """The nets over the segmenters' maps, and the maps that they write."""
    unit = MaskUnitConfig(
        stacker=settings.mask_stacker, segmenters=recipe.stage2,
        folds=recipe.folds, trained=recipe.folds_to_train, seed=recipe.seed,
    )  # fmt: skip
    pixel_files = [paths.prepared_folder / name for name in ("index.parquet", "pixels.npy", "masks.npy")]
    table_files = [paths.prepared_folder / "manifest.parquet", paths.folds_csv]
    side = recipe.small.size if recipe.small else recipe.prepared_size // 2  # members often see half the size
    nets = recipe.folds_to_train if len(recipe.folds_to_train) > 1 else range(recipe.subfolds)
    files = [f"net{net}/{name}" for net in nets for name in ("weights.safetensors", "history.csv")]
    return Step(
        name="stage 3 mask stack", room=ROOM, command=("stage3_stack.mask_stacker.train",), folder=stacked_map_folder(paths),
        settings=unit, inputs=(*_stage2_files(recipe, paths), *pixel_files, *table_files), needs_gpu=True,
        work_seconds=MASK_COST * len(nets) * settings.mask_stacker.steps * settings.mask_stacker.batch
        * (side / 256) ** 2,
        disk_bytes=paths.prepared_image_count * side**2,
        outputs=tuple(stacked_map_folder(paths) / name for name in ("maps.npy", "index.parquet", *files)),
        excluded_modules=STACK_MODULES,
    )  # fmt: skip


def _stage1_files(recipe: Recipe, paths: Paths) -> list[Path]:
    folders = [paths.fold_folder(1, member, fold) for member in recipe.stage1 for fold in recipe.folds_to_train]
    return [folder / name for folder in folders for name in ("predictions.parquet", "features.npz")]


def _stage2_files(recipe: Recipe, paths: Paths) -> list[Path]:
    folders = [map_folder(paths, member, fold) for member in recipe.stage2 for fold in (*recipe.folds_to_train, None)]
    return [folder / name for folder in folders for name in ("maps.npy", "index.parquet")]


def _data_files(recipe: Recipe, paths: Paths) -> list[Path]:
    optional_files = [test_truth_path(paths.data_folder), chest_tubes_path(paths.data_folder)]
    prepared_files = [
        paths.prepared_folder / name for name in ("manifest.parquet", "index.parquet", "pixels.npy", "sample.json")
    ]
    return [*prepared_files, paths.folds_csv, *filter(None, optional_files)]


def _optional_files(paths: Paths, settings: Config) -> list[Path]:
    """The mask stacker's maps and the chest boxes, where they are used."""
    map_files = [stacked_map_folder(paths) / name for name in ("maps.npy", "index.parquet")]
    uses_boxes = "box" in settings.lightgbm.columns and paths.boxes_csv.is_file()
    return [*(map_files if settings.masks == "stacker" else []), *([paths.boxes_csv] if uses_boxes else [])]


def refuse_renamed_keys(path: Path, params: object) -> None:
    """Raise UsageError where a decision.json's 'test', or one of its 'held_out', has keys of an earlier version."""
    old_keys = [key for key in RENAMED_DECISION_KEYS if isinstance(params, dict) and key in params]
    if old_keys:
        renamed_text = ", ".join(f"'{key}' is now called '{RENAMED_DECISION_KEYS[key]}'" for key in old_keys)
        raise UsageError(f"{path} is of an earlier version: {renamed_text}; FORCE=1 makes it anew: {STAGE3}")


def stacked_map_folder(paths: Paths) -> Path:
    """Where the mask stacker's maps lie, of held-out and of test images together."""
    return paths.stage3_folder / "maps"


def map_folder(paths: Paths, member: str, fold: int | None) -> Path:
    """Where a segmenter's maps lie: of a fold's held-out images or, with None, of the test images."""
    return paths.run_folder / "stage2" / member / "test" if fold is None else paths.fold_folder(2, member, fold)


def test_truth_path(data: Path) -> Path | None:
    """The test images' own masks, which phantoms have and a competition has not."""
    path = data / "test-truth.csv"
    return path if path.is_file() else None


def chest_tubes_path(data: Path) -> Path | None:
    """In which images a chest tube is seen; None where nobody knows."""
    path = data / "chest_tubes.csv"
    return path if path.is_file() else None
