"""Settings of a segmenter, and the steps of stage 2. Imports no framework."""

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from cxr.config import StrictModel, load_settings
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.recipe import Recipe
from cxr.step import Step
from cxr.training.augment import Augmentation
from cxr.training.cropping import View
from cxr.training.sampling import Sampling
from cxr.training.settings import HeadConfig, Training
from cxr.training.start_weights import StartWeights, adopt_expected_input
from stage2_segment.setting_conflicts import find_conflicts

ROOM = Path(__file__).parent.name
CONFIGS = Path(__file__).parent / "configs"
# Milliseconds to train on one image of 256 x 256 (2 cores, bfloat16): only their ratios are used.
TRAINING_MS = {
    "fcn:": 8, "unet:mobilenetv2_100": 50, "unet:resnet34": 100, "unet:resnet50": 150, "unet:se_resnext50_32x4d": 180,
    "unet:se_resnext101_32x4d": 250, "unet:tf_efficientnet_b3": 125, "unet:tf_efficientnet_b4": 174,
    "unet:efficientnet_b4": 174, "unetplusplus:mobilenetv2_100": 71, "unetplusplus:tf_efficientnet_b1": 115,
    "unetplusplus:tf_efficientnet_b4": 220, "unetplusplus:efficientnet_b4": 220, "unetplusplus:xception": 360,
}  # fmt: skip
CHECK = ("stage2_segment.check",)  # runs before any step: its results, settings and start weights, are inputs of steps
TRAINING_FILES = ("weights.safetensors", "history.csv")
MAP_FILES = ("maps.npy", "index.parquet")
SAME_NETWORK = ("architecture", "encoder", "encoder_args", "decoder_channels", "attention")


class LossConfig(StrictModel):
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


class LabelHead(StrictModel):
    """A classifier's head on the encoder, trained together with the map, by the image's label (BCE)."""

    head: HeadConfig
    weight: NonNegativeFloat = 0.5


class SegmenterConfig(StrictModel):
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
    """Probability that a channel is dropped, before the last convolution."""
    freeze_encoder: bool = False
    """In all epochs; training.head_first freezes it in the first ones only."""
    freeze_norm: bool = False
    """The encoder's batch norm keeps its start statistics and weights (fourth place); with random weights, the
    statistics of the training images."""
    weights: str | None = None
    """Start: 'imagenet' (a file <encoder>_imagenet in WEIGHTS or weights/, else the hub's), the name of another file
    there, or 'random' (weights/README.md). Required, except with start_from."""
    start_from: str | None = None
    """Another member, trained first on the same folds, whose weights this one starts from (512, then 1024)."""
    recalibrate: bool = False
    """Set batch norm's statistics on the training images before the first step."""
    mean: float | None = None
    std: float | None = None
    """Mean and deviation of gray values in 0..1; by default the start weights', else ImageNet's .449 and .226."""
    view: View
    augment: Augmentation = Augmentation()
    loss: LossConfig = LossConfig()
    label_head: LabelHead | None = None
    sampling: Sampling = Sampling()
    hflip_tta: bool = True
    training: Training

    @model_validator(mode="after")
    def _require_fitting_settings(self) -> "SegmenterConfig":
        if conflicts := find_conflicts(self):
            raise ValueError(conflicts[0])
        return self


class SegmenterStepConfig(StrictModel):
    """All that one step depends on, apart from its input files."""

    member: SegmenterConfig
    fold: int | None
    seed: int
    maps: bool = True
    """Whether maps are written; a member that others only start from writes none."""


def member_path(name: str) -> Path:
    """The file of a member."""
    return CONFIGS / f"{name}.yaml"


def read_member(name: str) -> SegmenterConfig:
    """The settings of a member, by name."""
    return load_settings(member_path(name), SegmenterConfig)


def list_start_members(name: str, member: SegmenterConfig) -> list[str]:
    """Members to train before this one, first to last; UsageError where one is missing, does not fit or is a circle."""
    chain, chain_end = [name], member
    while chain_end.start_from:
        key = f"{member_path(chain[-1])}: key 'start_from'"
        if chain_end.start_from in chain:
            circle = " <- ".join([*chain, chain_end.start_from])
            raise UsageError(f"{key}: members start from each other in a circle: {circle}; take one start_from out")
        start_member = _read_start_member(key, chain_end)
        chain, chain_end = [*chain, chain_end.start_from], start_member
    return chain[:0:-1]


def _read_start_member(key: str, member: SegmenterConfig) -> SegmenterConfig:
    """The member that this one starts from; UsageError that begins with `key` where it is missing or does not fit."""
    if not member_path(member.start_from).is_file():
        names = [path.stem for path in sorted(CONFIGS.glob("*.yaml"))]
        suggestions = difflib.get_close_matches(member.start_from, names, n=1) or names
        raise UsageError(f"{key}: there is no member '{member.start_from}'; did you mean {', '.join(suggestions)}?")
    start_member = read_member(member.start_from)
    for field in SAME_NETWORK:
        start_value, member_value = getattr(start_member, field), getattr(member, field)
        if start_value != member_value:
            raise UsageError(
                f"{key}: '{member.start_from}' is another network: its {field} is {start_value}, here it is "
                f"{member_value}; what fits is a member with the same {', '.join(SAME_NETWORK)}"
            )
    return start_member


def build_training_step(
    recipe: Recipe, paths: Paths, name: str, fold: int, member: SegmenterConfig, writes_maps: bool = True
) -> Step:
    """Training of one member on all folds but one, and its maps of that fold.

    recipe: seed and count of folds
    paths: of the run
    name: the member's, as in the recipe
    fold: the held-out one, 0 to recipe.folds - 1
    member: its settings, as the recipe trains them
    writes_maps: False for a member that others only start from
    """
    folder, image_count = paths.fold_folder(2, name, fold), paths.prepared_image_count
    map_bytes = image_count / recipe.folds * member.view.inference_size**2 if writes_maps else 0
    settings = SegmenterStepConfig(member=_complete_standalone(member), fold=fold, seed=recipe.seed, maps=writes_maps)
    return Step(
        name=f"stage 2 {name} fold {fold}",
        room=ROOM,
        command=("stage2_segment.train", "--member", name, "--fold", str(fold)),
        folder=folder,
        settings=settings,
        inputs=(*_list_input_files(paths, member), *_list_start_files(paths, member, fold)),
        work_seconds=estimate_training_cost(member, image_count * (recipe.folds - 1) / recipe.folds),
        disk_bytes=int(map_bytes + 60e6),
        needs_gpu=True,
        outputs=tuple(folder / file for file in (*TRAINING_FILES, *(MAP_FILES if writes_maps else ()))),
        excluded_modules=CHECK,
    )


def build_test_step(recipe: Recipe, paths: Paths, name: str, member: SegmenterConfig) -> Step:
    """Maps of the test images: the mean over the folds' models.

    recipe: seed, and which folds are trained
    paths: of the run
    name: the member's, as in the recipe
    member: its settings, as the recipe trains them
    """
    folder = paths.run_folder / "stage2" / name / "test"
    weights = [paths.fold_folder(2, name, fold) / "weights.safetensors" for fold in recipe.folds_to_train]
    return Step(
        name=f"stage 2 {name} test maps",
        room=ROOM,
        command=("stage2_segment.predict", "--member", name),
        folder=folder,
        settings=SegmenterStepConfig(member=_complete_standalone(member), fold=None, seed=recipe.seed),
        inputs=(*_list_input_files(paths, member), *weights),
        disk_bytes=paths.prepared_image_count // 4 * member.view.inference_size**2,
        needs_gpu=True,
        outputs=tuple(folder / file for file in MAP_FILES),
        excluded_modules=CHECK,
    )


def units(recipe: Recipe, paths: Paths) -> list[Step]:
    """Every step of a recipe, in the order to run them; members that are only pretraining have no test step."""
    steps, pretraining_names = [], pretraining_only(recipe)
    for name, member in complete_members(read_members(recipe)).items():
        writes_maps = name not in pretraining_names
        steps += [build_training_step(recipe, paths, name, fold, member, writes_maps) for fold in recipe.folds_to_train]
        steps += [build_test_step(recipe, paths, name, member)] if writes_maps else []
    return steps


def read_members(recipe: Recipe, extra_name: str | None = None) -> dict[str, SegmenterConfig]:
    """The recipe's members and `extra_name`, as the recipe trains them, each after those that it starts from."""
    members: dict[str, SegmenterConfig] = {}
    for name in [*recipe.stage2, extra_name] if extra_name else recipe.stage2:
        member = read_member(name)
        for start_name in list_start_members(name, member):
            members[start_name] = read_member(start_name)
        members[name] = member
    return {name: _drop_recipe_weights(member) for name, member in recipe.adapt_members(members).items()}


def _drop_recipe_weights(member: SegmenterConfig) -> SegmenterConfig:
    """The member without the recipe's start weights, where it starts from another member."""
    return member.model_copy(update={"weights": None}) if member.start_from else member


def get_start_weights(member: SegmenterConfig) -> StartWeights:
    """The file that `weights` of a member names; start_from is not looked at."""
    encoder = member.encoder or ""
    return StartWeights(member.weights, encoder.removeprefix("tu-"), "timm" if encoder.startswith("tu-") else "smp")


def complete_members(members: dict[str, SegmenterConfig]) -> dict[str, SegmenterConfig]:
    """Fill in mean, std and padding, where the YAML leaves them out, from the start weights.

    A member with start_from takes those of the member that it starts from, which has to be in `members`.
    """
    return {name: _complete_member(members, member) for name, member in members.items()}


def _complete_member(members: dict[str, SegmenterConfig], member: SegmenterConfig) -> SegmenterConfig:
    if not member.start_from:
        return _complete_standalone(member)
    start_member = _complete_member(members, members[member.start_from])
    missing_keys = [key for key in ("mean", "std") if getattr(member, key) is None]
    changes = {key: getattr(start_member, key) for key in missing_keys} | {"encoder_args": start_member.encoder_args}
    return member.model_copy(update=changes)


def _complete_standalone(member: SegmenterConfig) -> SegmenterConfig:
    return member if member.start_from else adopt_expected_input(member, get_start_weights(member), "encoder_args")


def pretraining_only(recipe: Recipe) -> set[str]:
    """Members that the recipe trains only because others start from their weights."""
    return set(read_members(recipe)) - set(recipe.stage2)


def start_from_weights(paths: Paths, member: SegmenterConfig, fold: int) -> Path:
    """The weights of the fold that a member with start_from starts from."""
    return paths.fold_folder(2, member.start_from, fold) / "weights.safetensors"


def estimate_training_cost(member: SegmenterConfig, image_count: float) -> float:
    """Training cost in seconds of the reference machine."""
    kind = f"{member.architecture}:{(member.encoder or '').removeprefix('tu-')}"
    return TRAINING_MS.get(kind, 150) / 1000 * image_count * member.training.epochs * (member.view.size / 256) ** 2


def _list_input_files(paths: Paths, member: SegmenterConfig) -> tuple[Path, ...]:
    files = [paths.prepared_folder / name for name in ("manifest.parquet", "index.parquet", "pixels.npy", "masks.npy")]
    boxes = [paths.boxes_csv] if member.view.crop == "box" else []
    return (*files, paths.folds_csv, *boxes)


def _list_start_files(paths: Paths, member: SegmenterConfig, fold: int) -> tuple[Path, ...]:
    start_from_files = [start_from_weights(paths, member, fold)] if member.start_from else []
    return (*get_start_weights(member).input_files, *start_from_files)
