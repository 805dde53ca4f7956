"""Settings of a classifier, and the units of work of stage 1. Imports no framework."""

from pathlib import Path
from typing import Any, Literal

from cxr.augment import Augment
from cxr.config import Strict, load
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.recipe import Recipe
from cxr.training import HeadConfig, Training
from cxr.views import View
from cxr.weights import look_up

ROOM = Path(__file__).parent.name
CONFIGS = Path(__file__).parent / "configs"
# Milliseconds to train on one image of 256 x 256 (2 cores, bfloat16): only their ratios are used.
COST = {"mobilenetv2_100": 21, "efficientnet_b4": 120, "tf_efficientnet_b4": 120, "legacy_xception": 76}


class ClassifierConfig(Strict):
    """One member of stage 1: a file of configs/."""

    framework: Literal["timm"] = "timm"
    """Which backend trains it: <framework>_backend.py, with the two functions fit and infer."""
    backbone: str
    """A name of timm's."""
    backbone_args: dict[str, Any] = {}
    weights: str | None = None
    """Start weights: 'imagenet' asks the hub, another name is a file in WEIGHTS or weights/; none: random."""
    recalibrate: bool = False
    """Set batch norm's statistics on the training images before the first step."""
    mean: float = 0.449
    std: float = 0.226
    """Of the gray values in 0..1, as the start weights expect them (ImageNet's means over the colours)."""
    head: HeadConfig = HeadConfig()
    view: View
    augment: Augment = Augment()
    balance: Literal["weight", "sampler", "none"] = "weight"
    """Against few positives: weigh them in the loss, or draw them more often."""
    positive_weight: float = 2.0
    """balance: weight. The loss of a positive counts this many times."""
    positive_share: float = 0.5
    """balance: sampler. Share of positives in each batch."""
    hflip_tta: bool = True
    training: Training


class UnitConfig(Strict):
    """All that one unit depends on beside its inputs."""

    member: ClassifierConfig
    fold: int
    seed: int


def read(name: str) -> ClassifierConfig:
    """The settings of a member, by name."""
    return load(CONFIGS / f"{name}.yaml", ClassifierConfig)


def with_weights(recipe: Recipe, member: ClassifierConfig) -> ClassifierConfig:
    """The member, started from the recipe's weights where the recipe names some."""
    return member.model_copy(update={"weights": recipe.weights}) if recipe.weights else member


def unit(recipe: Recipe, paths: Paths, name: str, fold: int, member: ClassifierConfig) -> Unit:
    """Training of one member on all folds but one, and what it says of that fold and of the test images."""
    images = paths.prepared_images
    return Unit(
        name=f"stage 1 {name} fold {fold}",
        room=ROOM,
        command=("stage1_classify.train", "--member", name, "--fold", str(fold)),
        folder=paths.unit(1, name, fold),
        config=UnitConfig(member=member, fold=fold, seed=recipe.seed),
        inputs=_inputs(recipe, paths, member),
        work=work(member, images * (recipe.folds - 1) / recipe.folds),
        disk=int(images * 4 * member.head.width + 80e6),
        gpu=True,
    )


def units(recipe: Recipe, paths: Paths) -> list[Unit]:
    """Every unit of a recipe, in the order to run them."""
    members = {name: with_weights(recipe, read(name)) for name in recipe.stage1}
    return [unit(recipe, paths, name, fold, member) for name, member in members.items() for fold in recipe.trained]


def work(member: ClassifierConfig, images: float) -> float:
    """Training cost in seconds of the reference machine."""
    return COST.get(member.backbone, 80) / 1000 * images * member.training.epochs * (member.view.size / 256) ** 2


def _inputs(recipe: Recipe, paths: Paths, member: ClassifierConfig) -> tuple[Path, ...]:
    files = [paths.prepared / name for name in ("manifest.parquet", "index.parquet", "pixels.npy")]
    boxes = [paths.boxes] if member.view.crop == "box" else []
    weights = look_up(member.weights) if member.weights else None
    return (*files, paths.folds(recipe.folds), *boxes, *([weights] if weights else []))
