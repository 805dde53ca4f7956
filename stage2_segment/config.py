"""Settings of a segmenter, and the units of work of stage 2. Imports no framework."""

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from cxr.augment import Augment
from cxr.config import Strict, load
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.recipe import Recipe
from cxr.sampling import Sampling
from cxr.training import HeadConfig, Training
from cxr.views import View
from cxr.weights import MISSING, RANDOM, Start, settle

ROOM = Path(__file__).parent.name
CONFIGS = Path(__file__).parent / "configs"
# Milliseconds to train on one image of 256 x 256 (2 cores, bfloat16): only their ratios are used.
COST = {
    "fcn:": 8, "unet:mobilenetv2_100": 50, "unet:resnet34": 100, "unet:resnet50": 150, "unet:se_resnext50_32x4d": 180,
    "unet:se_resnext101_32x4d": 250, "unet:tf_efficientnet_b3": 125, "unet:tf_efficientnet_b4": 174,
    "unet:efficientnet_b4": 174, "unetplusplus:mobilenetv2_100": 71, "unetplusplus:tf_efficientnet_b1": 115,
    "unetplusplus:tf_efficientnet_b4": 220, "unetplusplus:efficientnet_b4": 220, "unetplusplus:xception": 360,
}  # fmt: skip
CHECK = ("stage2_segment.check",)  # asked before any unit: its answers are settings and the start weights' file
DEPTH = 5  # stages of an encoder: its last feature map is 1/32 of the image
SQUEEZE = 16  # scSE's bottleneck is this part of the channels
TRAINED, MAPS = ("weights.safetensors", "history.csv"), ("maps.npy", "index.parquet")  # what a unit leaves
SAME_NETWORK = ("architecture", "encoder", "encoder_args", "decoder_channels", "attention")


class LossConfig(Strict):
    """Weights of the losses that are summed."""

    bce: NonNegativeFloat = 1.0
    dice: NonNegativeFloat = 1.0
    """1 - soft Dice."""
    log_dice: NonNegativeFloat = 0.0
    """-log(soft Dice) (nguyen)."""
    focal: NonNegativeFloat = 0.0
    focal_alpha: float | None = Field(default=None, ge=0, le=1)
    """Weight of the pixels inside, 1 - focal_alpha of those outside; none: 1 for both."""
    focal_gamma: NonNegativeFloat = 2.0


class LabelHead(Strict):
    """A classifier's head on the encoder, trained beside the map by the image's label (BCE)."""

    head: HeadConfig
    weight: NonNegativeFloat = 0.5


class SegmenterConfig(Strict):
    """One member of stage 2: a file of configs/."""

    architecture: Literal["unet", "unetplusplus", "fcn"]
    encoder: str | None = None
    """A timm backbone with 'tu-' before its name, or one of segmentation-models-pytorch's own; none for fcn."""
    encoder_args: dict[str, Any] = {}
    decoder_channels: tuple[PositiveInt, ...] = (256, 128, 64, 32, 16)
    """fcn: of its stride-2 convolutions, then of the bridge: (32, 64, 128, 128) in the published one."""
    attention: Literal["scse"] | None = None
    """In the decoder: concurrent spatial and channel squeeze and excitation (Roy et al. 2018)."""
    dropout: float = 0.0
    """Of whole channels, before the last convolution."""
    freeze_encoder: bool = False
    """For good; training.head_first freezes it for the first epochs."""
    freeze_norm: bool = False
    """The encoder's batch norm keeps its start statistics and weights (fourth place); of a random start, those of the
    training images."""
    weights: str | None = None
    """Start: 'imagenet' (a file <encoder>_imagenet in WEIGHTS or weights/, else the hub's), the name of another file
    there, or 'random'; has to be said (weights/README.md), but by a member that has start_from."""
    start_from: str | None = None
    """Another member, trained first on the same folds, whose weights this one goes on from (512, then 1024)."""
    recalibrate: bool = False
    """Set batch norm's statistics on the training images before the first step."""
    mean: float | None = None
    std: float | None = None
    """Of the gray values in 0..1; none: as the start weights want them, else ImageNet's .449 and .226."""
    view: View
    augment: Augment = Augment()
    loss: LossConfig = LossConfig()
    label_head: LabelHead | None = None
    sampling: Sampling = Sampling()
    hflip_tta: bool = True
    training: Training

    @model_validator(mode="after")
    def _fits_together(self) -> "SegmenterConfig":
        problems = [*_network_problems(self), *_start_problems(self), *_view_problems(self)]
        problems += [MISSING] if self.weights is None and not self.start_from else []
        if problems:
            raise ValueError(problems[0])
        return self


def _network_problems(member: SegmenterConfig) -> list[str]:
    """What the architecture, encoder, decoder and attention cannot be together, as far as the settings tell."""
    return _fcn_problems(member) if member.architecture == "fcn" else _unet_problems(member)


def _fcn_problems(member: SegmenterConfig) -> list[str]:
    needs_encoder = ("encoder", "encoder_args", "attention", "freeze_encoder", "freeze_norm", "label_head")
    found = [f"{key}: fcn has no encoder; leave it out, or take unet" for key in needs_encoder if getattr(member, key)]
    if member.weights not in (None, RANDOM):
        found.append("weights: fcn has no encoder to take them; write `weights: random`, or take unet")
    if member.training.head_first or member.training.layer_decay != 1:
        found.append("training.head_first, training.layer_decay: fcn has no encoder; leave them out")
    if "decoder_channels" not in member.model_fields_set or not 3 <= len(member.decoder_channels) <= DEPTH + 1:
        found.append("decoder_channels: fcn takes 2 to 5 stride-2 widths and the bridge's, as in [32, 64, 128, 128]")
    return found


def _unet_problems(member: SegmenterConfig) -> list[str]:
    found, channels = [], member.decoder_channels
    if not member.encoder:
        found.append(f"encoder: {member.architecture} needs one, resnet34 or tu-efficientnet_b0 say; fcn has none")
    if len(channels) != DEPTH:
        found.append(f"decoder_channels: {member.architecture} takes {DEPTH} numbers, not {len(channels)}")
    if member.attention and min(channels) < SQUEEZE:
        found.append(f"decoder_channels: attention: scse needs at least {SQUEEZE} in each, not {min(channels)}")
    return found


def _start_problems(member: SegmenterConfig) -> list[str]:
    """Where the weights come from, what of them stays, and whether they learn."""
    found = []
    if member.weights == "coco":
        found.append("weights: coco's are a detector's; take imagenet, random or the name of a file")
    if member.start_from and member.weights:
        found.append("weights: start_from brings the weights; leave one of them out")
    if not any((member.loss.bce, member.loss.dice, member.loss.log_dice, member.loss.focal)):
        found.append("loss: every weight is 0, so nothing would be learnt; give bce, dice, log_dice or focal one")
    if member.recalibrate and member.freeze_encoder:
        found.append("recalibrate: freeze_encoder keeps the start statistics; leave one of them out")
    if member.freeze_encoder and member.training.head_first:
        found.append("training.head_first: freeze_encoder freezes it for good; leave one of them out")
    return found


def _view_problems(member: SegmenterConfig) -> list[str]:
    found, view, label = [], member.view, member.label_head
    if label and label.head.kind == "tap" and label.head.stride not in [2**stage for stage in range(1, DEPTH + 1)]:
        found.append(f"label_head.head.stride: 2, 4, 8, 16 or 32, not {label.head.stride}")
    if label and label.head.kind == "flat" and view.largest != view.size:
        found.append("label_head.head.kind: flat needs images of one size, view.frame has two; take pooled or tap")
    return found


class UnitConfig(Strict):
    """All that one unit depends on beside its inputs."""

    member: SegmenterConfig
    fold: int | None
    seed: int
    maps: bool = True
    """Whether maps are written: not by a member of which only the weights are wanted (start_from)."""


def path_of(name: str) -> Path:
    """The file of a member."""
    return CONFIGS / f"{name}.yaml"


def read(name: str) -> SegmenterConfig:
    """The settings of a member, by name."""
    return load(path_of(name), SegmenterConfig)


def formers(name: str, member: SegmenterConfig) -> list[str]:
    """Members to train before this one, first to last; UsageError where the chain of start_from is no good."""
    chain, here = [name], member
    while here.start_from:
        key = f"{path_of(chain[-1])}: key 'start_from'"
        if here.start_from in chain:
            circle = " <- ".join([*chain, here.start_from])
            raise UsageError(f"{key}: members start from each other in a circle: {circle}; take one start_from out")
        former = _former(key, here)
        chain, here = [*chain, here.start_from], former
    return chain[:0:-1]


def _former(key: str, member: SegmenterConfig) -> SegmenterConfig:
    """The member that this one starts from; UsageError where there is none, or it is another network."""
    if not path_of(member.start_from).is_file():
        names = [path.stem for path in sorted(CONFIGS.glob("*.yaml"))]
        near = difflib.get_close_matches(member.start_from, names, n=1) or names
        raise UsageError(f"{key}: there is no member '{member.start_from}'; did you mean {', '.join(near)}?")
    former = read(member.start_from)
    for field in SAME_NETWORK:
        theirs, ours = getattr(former, field), getattr(member, field)
        if theirs != ours:
            raise UsageError(
                f"{key}: '{member.start_from}' is another network: its {field} is {theirs}, here it is {ours}; "
                f"what fits is a member with the same {', '.join(SAME_NETWORK)}"
            )
    return former


def unit(recipe: Recipe, paths: Paths, name: str, fold: int, member: SegmenterConfig, maps: bool = True) -> Unit:
    """Training of one member on all folds but one, and its maps of that fold."""
    images = paths.prepared_images
    former = [former_weights(paths, member, fold)] if member.start_from else []
    return Unit(
        name=f"stage 2 {name} fold {fold}",
        room=ROOM,
        command=("stage2_segment.train", "--member", name, "--fold", str(fold)),
        folder=paths.unit(2, name, fold),
        config=UnitConfig(member=_alone(member), fold=fold, seed=recipe.seed, maps=maps),
        inputs=(*_inputs(recipe, paths, member), *start(member).inputs, *former),
        work=work(member, images * (recipe.folds - 1) / recipe.folds),
        disk=int(maps * images / recipe.folds * member.view.largest**2 + 60e6),
        gpu=True,
        outputs=tuple(paths.unit(2, name, fold) / file for file in (*TRAINED, *(MAPS if maps else ()))),
        but_not=CHECK,
    )


def test_unit(recipe: Recipe, paths: Paths, name: str, member: SegmenterConfig) -> Unit:
    """Maps of the test images: the mean over the folds' models."""
    weights = [paths.unit(2, name, fold) / "weights.safetensors" for fold in recipe.trained]
    return Unit(
        name=f"stage 2 {name} test maps",
        room=ROOM,
        command=("stage2_segment.predict", "--member", name),
        folder=paths.run / "stage2" / name / "test",
        config=UnitConfig(member=_alone(member), fold=None, seed=recipe.seed),
        inputs=(*_inputs(recipe, paths, member), *weights),
        disk=paths.prepared_images // 4 * member.view.largest**2,
        gpu=True,
        outputs=tuple(paths.run / "stage2" / name / "test" / file for file in MAPS),
        but_not=CHECK,
    )


def units(recipe: Recipe, paths: Paths) -> list[Unit]:
    """Every unit of a recipe, in the order to run them; of a member's formers the trainings alone."""
    found, weights_only = [], only_formers(recipe)
    for name, member in settled(members(recipe)).items():
        maps = name not in weights_only
        found += [unit(recipe, paths, name, fold, member, maps) for fold in recipe.trained]
        found += [test_unit(recipe, paths, name, member)] if maps else []
    return found


def members(recipe: Recipe, asked: str | None = None) -> dict[str, SegmenterConfig]:
    """The recipe's members, the one asked for and their formers, as the recipe trains them, formers first."""
    found: dict[str, SegmenterConfig] = {}
    for name in dict.fromkeys([*recipe.stage2, *([asked] if asked else [])]):
        member = read(name)
        found |= {former: read(former) for former in formers(name, member)} | {name: member}
    return {name: _from_its_former(member) for name, member in recipe.adapted(found).items()}


def _from_its_former(member: SegmenterConfig) -> SegmenterConfig:
    """A recipe's start weights are for those that start from no other member."""
    return member.model_copy(update={"weights": None}) if member.start_from else member


def start(member: SegmenterConfig) -> Start:
    """What a member starts from, but for start_from."""
    encoder = member.encoder or ""
    return Start(member.weights, encoder.removeprefix("tu-"), "timm" if encoder.startswith("tu-") else "smp")


def settled(found: dict[str, SegmenterConfig]) -> dict[str, SegmenterConfig]:
    """Members whose gray values and padding, where their YAML leaves them out, are those that their start wants.

    A member with start_from takes its former's, which has to be among them.
    """
    return {name: _settled(found, member) for name, member in found.items()}


def _settled(found: dict[str, SegmenterConfig], member: SegmenterConfig) -> SegmenterConfig:
    if not member.start_from:
        return _alone(member)
    former = _settled(found, found[member.start_from])
    silent = [key for key in ("mean", "std") if getattr(member, key) is None]
    changes = {key: getattr(former, key) for key in silent} | {"encoder_args": former.encoder_args}
    return member.model_copy(update=changes)


def _alone(member: SegmenterConfig) -> SegmenterConfig:
    return member if member.start_from else settle(member, start(member), "encoder_args")


def only_formers(recipe: Recipe) -> set[str]:
    """Members that the recipe trains only because others start from their weights."""
    return set(members(recipe)) - set(recipe.stage2)


def former_weights(paths: Paths, member: SegmenterConfig, fold: int) -> Path:
    """The weights that a member with start_from goes on from."""
    return paths.unit(2, member.start_from, fold) / "weights.safetensors"


def work(member: SegmenterConfig, images: float) -> float:
    """Training cost in seconds of the reference machine."""
    kind = f"{member.architecture}:{(member.encoder or '').removeprefix('tu-')}"
    return COST.get(kind, 150) / 1000 * images * member.training.epochs * (member.view.size / 256) ** 2


def _inputs(recipe: Recipe, paths: Paths, member: SegmenterConfig) -> tuple[Path, ...]:
    files = [paths.prepared / name for name in ("manifest.parquet", "index.parquet", "pixels.npy", "masks.npy")]
    boxes = [paths.boxes] if member.view.crop == "box" else []
    return (*files, paths.folds, *boxes)
