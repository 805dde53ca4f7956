"""Settings of stage 3: the keys of configs/<name>.yaml, and what each of them means."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cxr.config import StrictModel, load_settings
from cxr.errors import UsageError
from cxr.recipe import Recipe

CONFIGS = Path(__file__).parent.parent / "configs"

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
    """Its features. pca: the dense head's principal components; header: age, sex, view; box: place and size of the
    chest box, if there are boxes; masks: statistics of the segmenters' mean map, if there are segmenters."""
    trees: PositiveInt = 100
    leaves: int = Field(7, ge=2)
    lr: PositiveFloat = 0.05
    min_rows_per_leaf: PositiveInt = 10
    """Training rows in a leaf, at least."""
    renamed_keys: ClassVar = {"least_rows": "min_rows_per_leaf"}


class MaskStackerConfig(StrictModel):
    """The rank-47 solution's network over the members' maps and the image, added to the logit of their mean."""

    width: PositiveInt = 32
    layers: PositiveInt = 3
    """3x3 convolutions of this width, each with ReLU, before the final 1x1 convolution."""
    steps: PositiveInt = 2000
    batch: PositiveInt = 4
    lr: PositiveFloat = 3e-4
    positive_share: float = Field(0.5, gt=0, lt=1)
    """Share of images with a pneumothorax in each batch."""


class ZoneConfig(StrictModel):
    """Probabilities between which an image is called inconclusive: given as low and high, or by an accuracy."""

    low: Probability | None = None
    high: Probability | None = None
    accuracy: Probability | None = None
    """The narrowest zone with this accuracy on all other images is chosen, nested like the thresholds."""

    @model_validator(mode="after")
    def _check_one_way(self) -> "ZoneConfig":
        edges = (self.low, self.high)
        if (None in edges) == (self.accuracy is None) or (self.accuracy is not None and edges != (None, None)):
            raise ValueError("give either low and high, or accuracy alone")
        if self.accuracy is None and self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class GridConfig(StrictModel):
    """The thresholds to try; scores are probabilities, areas are pixels of an image of reference_size squared.

    With one value in each list nothing is chosen: those thresholds are used as they are.
    """

    top_score_thresholds: Exact | Annotated[list[Share], Field(min_length=1)]
    """An image gets a mask only if enough pixels score above this; exact: every level of the 8-bit maps."""
    min_areas: Exact | Annotated[list[NonNegativeInt], Field(min_length=1)]
    """How many pixels are enough; exact: every area that occurs among the images."""
    bottom_score_thresholds: Exact | Annotated[list[Share], Field(min_length=1)]
    """The mask is then the pixels that score above this; exact: every level of the 8-bit maps."""
    probability_thresholds: Quantiles | Annotated[list[Probability], Field(min_length=1)] = [0.0]
    """An image gets a mask only if the stacked classifier's probability reaches this. {quantiles: n}: 0, which lets
    every image pass, and n evenly spaced quantiles of the probabilities of the images that it is chosen on."""
    label_head_thresholds: list[Probability] = Field([0.0], min_length=1)
    """An image gets a mask only if the mean probability of the segmenters' own label heads reaches this; 0: always."""
    min_component_areas: list[NonNegativeFloat] = Field([0.0], min_length=1)
    """Connected components of the mask with fewer pixels are dropped."""
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
        """Whether there is more than one combination of thresholds."""
        lists = [getattr(self, name) for name in GridConfig.model_fields if name != "reference_size"]
        return not all(isinstance(values, list) and len(values) == 1 for values in lists)


class OperatingPointConfig(StrictModel):
    """What the probability threshold is chosen by: one of these, and by default Kaggle's Dice."""

    kaggle_dice: Literal[True] | None = None
    """The value of grid.probability_thresholds with the best mean Dice."""
    specificity: Probability | None = None
    """The lowest threshold with at least this share of the negatives below it."""
    sensitivity: Probability | None = None
    """The highest threshold with at least this share of the positives at or above it."""
    f_beta: PositiveFloat | None = None
    """The threshold with the best F-score, in which recall weighs this many times as much as precision."""

    @model_validator(mode="after")
    def _check_one_target(self) -> "OperatingPointConfig":
        if len(self.target) > 1:
            raise ValueError(f"{' and '.join(self.target)}: give one of them")
        return self

    @property
    def target(self) -> dict[str, float]:
        """The key that is given and its value; empty by default, which means Kaggle's Dice."""
        return self.model_dump(exclude_none=True)

    @property
    def is_chosen_by_labels(self) -> bool:
        """Whether the threshold is chosen by labels and probabilities alone, and not by masks."""
        return bool(self.target.keys() - {"kaggle_dice"})


class Config(StrictModel):
    """One file of configs/."""

    stacker: Stacker = "dense"
    """auto: the best on held-out images, by AUC, then by log-loss."""
    calibration: Literal["platt", "temperature", "isotonic"] = "platt"
    """From logits to probabilities, nested. platt: slope and intercept; temperature: a slope alone; isotonic: rising
    steps, which make ties."""
    min_rows_per_class: PositiveInt = 5
    """With fewer training rows of either class a head is not trained, and gives the members' mean logit."""
    dense: DenseConfig
    lightgbm: LightgbmConfig = LightgbmConfig()
    masks: Literal["mean", "stacker"] = "mean"
    """The map that the final masks come from: the members' mean, or the mask stacker's."""
    mask_stacker: MaskStackerConfig = MaskStackerConfig()
    grid: GridConfig
    operating_point: OperatingPointConfig = OperatingPointConfig()
    """What the probability threshold is chosen by; the other thresholds are then the best by Kaggle's Dice at it."""
    prevalence: float | None = Field(None, gt=0, lt=1)
    """Prevalence of pneumothorax for which predictive values are stated; by default that among the images."""
    zone: ZoneConfig | None = None
    """The inconclusive zone; it changes no mask: the table gives the share of images in it, and accuracy outside it."""
    renamed_keys: ClassVar = {"least_per_class": "min_rows_per_class"}

    @model_validator(mode="after")
    def _check_one_probability_threshold(self) -> "Config":
        names = ("probability_thresholds", "label_head_thresholds")
        conflicting_keys = [name for name in names if getattr(self.grid, name) != [0]]
        if self.operating_point.is_chosen_by_labels and conflicting_keys:
            raise ValueError(
                f"operating_point: {next(iter(self.operating_point.target))} sets the probability threshold, and "
                f"grid.{conflicting_keys[0]} asks for another; set grid.{conflicting_keys[0]} to [0]"
            )
        return self


def read_stack_settings(recipe: Recipe) -> Config:
    """The settings that a recipe names, with fewer training steps if the recipe is a small trial.

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
