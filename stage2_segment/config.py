"""Settings of a segmenter, and the units of work of stage 2. Imports no framework."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

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
COST = {"unet:mobilenetv2_100": 50, "unetplusplus:mobilenetv2_100": 71, "unet:efficientnet_b4": 174}


class LossConfig(Strict):
    """Weights of the losses that are summed."""

    bce: float = 1.0
    dice: float = 1.0
    focal: float = 0.0
    focal_alpha: float | None = None
    focal_gamma: float = 2.0


class LabelHead(Strict):
    """A classifier's head on the encoder, trained beside the map by the image's label."""

    head: HeadConfig
    weight: float = 0.5


class SegmenterConfig(Strict):
    """One member of stage 2: a file of configs/."""

    architecture: Literal["unet", "unetplusplus"]
    encoder: str
    """A timm backbone with 'tu-' before its name, or one of segmentation-models-pytorch's own."""
    encoder_args: dict[str, Any] = {}
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    dropout: float = 0.0
    """Of whole channels, before the last convolution."""
    freeze_encoder: bool = False
    weights: str | None = None
    """Start weights: 'imagenet' asks the hub, another name is a file in WEIGHTS or weights/; none: random."""
    recalibrate: bool = False
    """Set batch norm's statistics on the training images before the first step."""
    mean: float = 0.449
    std: float = 0.226
    """Of the gray values in 0..1, as the start weights expect them (ImageNet's means over the colours)."""
    view: View
    augment: Augment = Augment()
    loss: LossConfig = LossConfig()
    label_head: LabelHead | None = None
    positive_share: float | None = Field(default=None, gt=0, lt=1)
    """Share of positives in each training batch; none: as they come."""
    hflip_tta: bool = True
    training: Training


class UnitConfig(Strict):
    """All that one unit depends on beside its inputs."""

    member: SegmenterConfig
    fold: int | None
    seed: int


def read(name: str) -> SegmenterConfig:
    """The settings of a member, by name."""
    return load(CONFIGS / f"{name}.yaml", SegmenterConfig)


def unit(recipe: Recipe, paths: Paths, name: str, fold: int, member: SegmenterConfig) -> Unit:
    """Training of one member on all folds but one, and its maps of that fold."""
    images = paths.prepared_images
    return Unit(
        name=f"stage 2 {name} fold {fold}",
        room=ROOM,
        command=("stage2_segment.train", "--member", name, "--fold", str(fold)),
        folder=paths.unit(2, name, fold),
        config=UnitConfig(member=member, fold=fold, seed=recipe.seed),
        inputs=(*_inputs(recipe, paths, member), *_weights(member)),
        work=work(member, images * (recipe.folds - 1) / recipe.folds),
        disk=int(images / recipe.folds * member.view.size**2 + 60e6),
        gpu=True,
    )


def test_unit(recipe: Recipe, paths: Paths, name: str, member: SegmenterConfig) -> Unit:
    """Maps of the test images: the mean over the folds' models."""
    weights = [paths.unit(2, name, fold) / "weights.safetensors" for fold in recipe.trained]
    return Unit(
        name=f"stage 2 {name} test maps",
        room=ROOM,
        command=("stage2_segment.predict", "--member", name),
        folder=paths.run / "stage2" / name / "test",
        config=UnitConfig(member=member, fold=None, seed=recipe.seed),
        inputs=(*_inputs(recipe, paths, member), *weights),
        disk=paths.prepared_images // 4 * member.view.size**2,
        gpu=True,
    )


def units(recipe: Recipe, paths: Paths) -> list[Unit]:
    """Every unit of a recipe, in the order to run them."""
    found = []
    for name in recipe.stage2:
        member = with_weights(recipe, read(name))
        found += [unit(recipe, paths, name, fold, member) for fold in recipe.trained]
        found.append(test_unit(recipe, paths, name, member))
    return found


def with_weights(recipe: Recipe, member: SegmenterConfig) -> SegmenterConfig:
    """The member, started from the recipe's weights where the recipe names some."""
    return member.model_copy(update={"weights": recipe.weights}) if recipe.weights else member


def work(member: SegmenterConfig, images: float) -> float:
    """Training cost in seconds of the reference machine."""
    kind = f"{member.architecture}:{member.encoder.removeprefix('tu-')}"
    return COST.get(kind, 150) / 1000 * images * member.training.epochs * (member.view.size / 256) ** 2


def _inputs(recipe: Recipe, paths: Paths, member: SegmenterConfig) -> tuple[Path, ...]:
    files = [paths.prepared / name for name in ("manifest.parquet", "index.parquet", "pixels.npy", "masks.npy")]
    boxes = [paths.boxes] if member.view.crop == "box" else []
    return (*files, paths.folds(recipe.folds), *boxes)


def _weights(member: SegmenterConfig) -> tuple[Path, ...]:
    found = look_up(member.weights) if member.weights else None
    return (found,) if found else ()
