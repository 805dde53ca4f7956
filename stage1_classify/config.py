"""Settings of a classifier, and the steps of stage 1. Imports no framework."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from cxr.config import StrictModel, load_settings
from cxr.paths import Paths
from cxr.recipe import Recipe
from cxr.step import Step
from cxr.training.augment import Augmentation
from cxr.training.cropping import View
from cxr.training.sampling import Sampling
from cxr.training.settings import HeadConfig, Training
from cxr.training.start_weights import MISSING_WEIGHTS, RANDOM, StartWeights, adopt_expected_input

ROOM = Path(__file__).parent.name
CONFIGS = Path(__file__).parent / "configs"
KERAS_BACKBONES = (*(f"EfficientNetB{number}" for number in range(8)), "Xception", "VGG16")
# What Keras's ImageNet weights want where it is not ImageNet's mean and deviation: 0..255 less the mean is VGG16's.
KERAS_INPUT = {"Xception": (0.5, 0.5), "VGG16": (0.45, 1 / 255)}
WEIGHTS = {"timm": "weights.safetensors", "keras": "weights.keras"}
TABLES = ("history.csv", "predictions.parquet", "features.npz")
# Milliseconds to train on one image of 256 x 256 (2 cores, bfloat16): only their ratios are used.
TRAINING_MS = {
    "mobilenetv2_100": 21, "efficientnet_b4": 120, "tf_efficientnet_b4": 120, "legacy_xception": 76,
    "EfficientNetB4": 365, "Xception": 271, "VGG16": 180,
}  # fmt: skip
MAX_FEATURE_WIDTH = 2560  # features of a pooled head: as many as the backbone has channels, of EfficientNet-B7 so many


class ClassifierConfig(StrictModel):
    """One member of stage 1: a file of configs/."""

    framework: Literal["timm", "keras"] = "timm"
    """Which backend trains it: <framework>_members/backend.py, with the two functions fit and infer."""
    backbone: str
    """A name of timm's or, with framework: keras, one of KERAS_BACKBONES."""
    backbone_args: dict[str, Any] = {}
    """timm: more arguments of the backbone."""
    weights: str | None = None
    """Start: 'imagenet' (a file <backbone>_imagenet in WEIGHTS or weights/, else the hub's), the name of another file
    there, or 'random'; has to be said (weights/README.md)."""
    recalibrate: bool = False
    """timm: set batch norm's statistics on the training images before the first step."""
    freeze_backbone: bool = False
    """Train the head alone."""
    mean: float | None = None
    std: float | None = None
    """Of the gray values in 0..1; none: as the start weights want them, else ImageNet's .449 and .226."""
    head: HeadConfig = HeadConfig()
    view: View
    augment: Augmentation = Augmentation()
    sampling: Sampling = Sampling()
    positive_weight: float = 1.0
    """The loss of a positive counts this many times."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Labels are moved this far towards 1/2: with .25 a positive is .875, a negative .125."""
    hflip_tta: bool = True
    """Inference is the mean over the image and the mirrored image."""
    tta_passes: NonNegativeInt = 0
    """Inference is the mean over so many passes, each augmented as in training; 0: one plain pass."""
    input: Literal["arrays", "tfrecord"] = "arrays"
    """keras: tfrecord trains from the records of `python -m datatools.export --to tfrecord` through tf.data."""
    training: Training

    @model_validator(mode="after")
    def _require_framework_fit(self) -> "ClassifierConfig":
        problem = _find_keras_problem(self) if self.framework == "keras" else _find_timm_problem(self)
        problem = problem or _find_problem(self)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def sees_parts(self) -> bool:
        """Whether a crop or zoom may leave the lesion out of a sample: its label is then read from the mask.

        Rotations are too small to.
        """
        view, augment = self.view, self.augment
        return view.crop == "box" or bool(view.random_share or view.frame or augment.zoom_in or augment.scale)


def _find_problem(member: ClassifierConfig) -> str | None:
    """The first conflict or missing setting that no framework allows; None where there is none."""
    if member.sampling.positives_only:
        return "sampling.positives_only: a classifier needs negatives, too"
    if member.head.kind == "flat" and member.view.inference_size != member.view.size:
        return "view.frame: a flat head sees one size only; leave frame out"
    useless_when_frozen = {
        "recalibrate": member.recalibrate, "training.head_first": member.training.head_first,
        "training.layer_decay": member.training.layer_decay < 1,
    }  # fmt: skip
    requested_keys = [key for key, value in useless_when_frozen.items() if value and member.freeze_backbone]
    if requested_keys:
        return f"{requested_keys[0]}: freeze_backbone leaves it nothing to do"
    if member.weights == "coco":
        return "weights: coco's are a detector's; take imagenet, random or the name of a file"
    return MISSING_WEIGHTS if member.weights is None else None


def _find_keras_problem(member: ClassifierConfig) -> str | None:
    """The first setting that Keras members do not have; None where there is none."""
    if member.backbone not in KERAS_BACKBONES:
        return f"backbone: '{member.backbone}' is none of Keras's: {', '.join(KERAS_BACKBONES)}"
    torch_only = {
        "backbone_args": member.backbone_args, "recalibrate": member.recalibrate,
        "training.layer_decay": member.training.layer_decay != 1.0,
    }  # fmt: skip
    requested_keys = [key for key, value in torch_only.items() if value]
    return f"{requested_keys[0]}: only framework: timm has it" if requested_keys else None


def _find_timm_problem(member: ClassifierConfig) -> str | None:
    return "input: tfrecord is read by framework: keras alone" if member.input == "tfrecord" else None


class TrainingStepConfig(StrictModel):
    """All that one step depends on besides its inputs."""

    member: ClassifierConfig
    fold: int
    seed: int


def read_member(name: str) -> ClassifierConfig:
    """The settings of a member, by name."""
    return load_settings(CONFIGS / f"{name}.yaml", ClassifierConfig)


def read_members(recipe: Recipe, names: list[str] | None = None) -> dict[str, ClassifierConfig]:
    """The recipe's members, or those named, as the recipe trains them."""
    names = recipe.stage1 if names is None else names
    all_members = recipe.adapt_members({name: read_member(name) for name in dict.fromkeys([*recipe.stage1, *names])})
    return {name: all_members[name] for name in names}


def build_training_step(recipe: Recipe, paths: Paths, name: str, fold: int, member: ClassifierConfig) -> Step:
    """Training of one member on all folds but one, and its predictions for that fold and the test images.

    recipe: the chosen recipe.
    paths: folders of the run.
    name: of the member.
    fold: that is held out.
    member: settings of the member.
    """
    images = paths.prepared_image_count
    member = complete_member(member)
    return Step(
        name=f"stage 1 {name} fold {fold}",
        room=ROOM,
        command=("stage1_classify.train", "--member", name, "--fold", str(fold)),
        folder=paths.fold_folder(1, name, fold),
        settings=TrainingStepConfig(member=member, fold=fold, seed=recipe.seed),
        inputs=_list_input_files(recipe, paths, member),
        work_seconds=estimate_training_cost(member, images * (recipe.folds - 1) / recipe.folds),
        disk_bytes=int(images * 4 * (MAX_FEATURE_WIDTH if member.head.kind == "pooled" else member.head.width) + 80e6),
        needs_gpu=True,
        outputs=tuple(paths.fold_folder(1, name, fold) / file for file in (WEIGHTS[member.framework], *TABLES)),
        chosen_modules=(f"stage1_classify.{member.framework}_members.backend",),
        excluded_modules=(
            "stage1_classify.check",
        ),  # asked before any step: its answer, the start weights' file, is an input
    )


def units(recipe: Recipe, paths: Paths) -> list[Step]:
    """Every step of a recipe, in the order to run them."""
    members_by_name = read_members(recipe)
    return [
        build_training_step(recipe, paths, name, fold, member)
        for name, member in members_by_name.items()
        for fold in recipe.folds_to_train
    ]


def get_start_weights(member: ClassifierConfig) -> StartWeights:
    """What a member starts from."""
    return StartWeights(member.weights, member.backbone, member.framework)


def complete_member(member: ClassifierConfig) -> ClassifierConfig:
    """Fill in mean, std and padding from the start weights where the YAML leaves them out."""
    if member.framework == "keras" and member.weights != RANDOM and member.backbone in KERAS_INPUT:
        keras_defaults = dict(zip(("mean", "std"), KERAS_INPUT[member.backbone], strict=True))
        member = member.model_copy(
            update={key: value for key, value in keras_defaults.items() if getattr(member, key) is None}
        )
    return adopt_expected_input(member, get_start_weights(member), "backbone_args")


def estimate_training_cost(member: ClassifierConfig, images: float) -> float:
    """Training cost in seconds of the reference machine."""
    return TRAINING_MS.get(member.backbone, 80) / 1000 * images * member.training.epochs * (member.view.size / 256) ** 2


def _list_input_files(recipe: Recipe, paths: Paths, member: ClassifierConfig) -> tuple[Path, ...]:
    files = [paths.prepared_folder / name for name in ("manifest.parquet", "index.parquet", "pixels.npy")]
    boxes = [paths.boxes_csv] if member.view.crop == "box" else []
    masks = [paths.prepared_folder / "masks.npy"] if member.sees_parts else []
    record_files = find_record_files(paths) if member.input == "tfrecord" else []
    return (*files, paths.folds_csv, *boxes, *masks, *record_files, *get_start_weights(member).input_files)


def find_record_files(paths: Paths) -> list[Path]:
    """The TFRecords of the training images, as `python -m datatools.export --to tfrecord` writes them."""
    return sorted(paths.artifacts_folder.glob("export/tfrecord/train-*.tfrec"))
