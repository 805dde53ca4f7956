"""Settings of the chest detector, and the unit of work of stage 0. Imports no framework."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cxr.augment import Augment
from cxr.config import Strict, load
from cxr.paths import Paths, home
from cxr.plan import Unit
from cxr.recipe import Recipe
from cxr.training import Training
from cxr.weights import MISSING, RANDOM, Start
from stage0_bbox import edits

ROOM = Path(__file__).parent.name
CONFIGS = Path(__file__).parent / "configs"
CHECK = ("stage0_bbox.check",)
"""What is asked before any unit: its answer, the start weights' file, is an input."""
AFTERWARDS = (*CHECK, *(f"stage0_bbox.{name}" for name in ("choose", "edits", "overview", "scores")))
"""Modules that turn detections into boxes: no network depends on them."""
# Milliseconds to train on one image of 256 x 256 (2 cores, float32): only their ratios are used.
COST = {"fasterrcnn_mobilenetv2": 60, "fasterrcnn_resnet50_fpn_v2": 4000}


class Moves(Strict):
    """How a training image and its box are moved about."""

    hflip: float = Field(default=0.0, ge=0, le=1)
    """Probability of a mirror image."""
    shift: float = Field(default=0.0, ge=0, lt=0.5)
    """Largest shift along each axis, as a share of the frame."""
    zoom: float = Field(default=0.0, ge=0, lt=0.5)
    """Largest change of scale: between 1 - zoom and 1 + zoom."""


class Config(Strict):
    """The detector: a file of configs/."""

    model: Literal["fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenetv2"]
    size: int = Field(ge=64, multiple_of=32)
    """Side of the square that the network sees, in pixels: the whole canvas, resized."""
    weights: str | None = None
    """Start: 'coco' (of the ResNet-50; a file <model>_coco in WEIGHTS or weights/, else the hub's), the name of another
    file there, or 'random'; has to be said (weights/README.md)."""
    recalibrate: bool = False
    """Set batch norm's statistics on the training images before the first step."""
    labels: tuple[str, ...] = Field(min_length=1)
    """Files of boxes in order of trust: the first is the hand labels, which alone are scored against; the others
    fill in, in training only. Looked up in the data's boundingbox_csv/, in the data folder, in ours."""
    cross_validation: int = Field(default=2, ge=2)
    """Models: each is trained without a part of the boxed patients, whose images it then predicts."""
    score_threshold: float = Field(default=0.5, ge=0, le=1)
    """Below it the mean box of the training labels is taken."""
    margin: float = Field(default=0.02, ge=0, lt=1)
    """Each side of a found box is pushed out by this share of the box's extent."""
    vote_iou: float = Field(default=0.7, gt=0, le=1)
    """The found box is the score-weighted mean of the detections that overlap the best one by this much."""
    epoch_images: int = Field(gt=0)
    """Training images drawn in an epoch; with fewer labels they come up again, moved another way."""
    moves: Moves = Moves()
    augment: Augment = Augment()
    """Of the gray values only; `moves` does the geometry, as the box must follow."""
    training: Training

    @field_validator("augment")
    @classmethod
    def _keeps_place(cls, augment: Augment) -> Augment:
        if augment.hflip or augment.rotate or augment.distort:
            raise ValueError("hflip, rotate and distort would leave the box behind; see moves")
        return augment


    @model_validator(mode="after")
    def _starts_from_what_fits(self) -> "Config":
        if self.weights is None:
            raise ValueError(MISSING.replace("imagenet", "coco"))
        if self.weights == "imagenet" or (self.weights == "coco" and "resnet50" not in self.model):
            raise ValueError(f"weights: there are no {self.weights} ones of {self.model}; name a file, or write random")
        return self


class FitConfig(Strict):
    """All that one of the cross-validation's models depends on beside its inputs."""

    detector: Config
    fold: int
    seed: int
    folds: int


class DetectConfig(Strict):
    """All that the detections depend on beside the models and the pixels."""

    detector: Config
    seed: int
    folds: int


class UnitConfig(Strict):
    """All that the boxes depend on beside their inputs."""

    detector: Config
    seed: int
    folds: int
    edits: str
    """Digest of the boxes that the user edited."""


@dataclass(frozen=True)
class BoxUnit(Unit):
    """Stage 0's unit: up to date only while every image's box lies where the user may edit it."""

    boxes: Path = Path()
    """Of this run, for the later stages."""
    editable_boxes: Path = Path()

    @property
    def current(self) -> bool:
        whole = edits.is_picture(self.editable_boxes.with_suffix(".jpg"))
        return super().current and whole and edits.is_complete(self.editable_boxes, self.boxes)


def read(name: str) -> Config:
    """The settings of a detector, by name."""
    return load(CONFIGS / f"{name}.yaml", Config)


def units(recipe: Recipe, paths: Paths) -> list[Unit]:
    """The one unit of stage 0."""
    return [unit(recipe, paths, with_weights(recipe, read(recipe.stage0)))]


def unit(recipe: Recipe, paths: Paths, detector: Config) -> BoxUnit:
    """Training of the cross-validation's models, and the boxes of every image."""
    edits.restore(paths.editable_boxes)
    edited = edits.digest(paths.editable_boxes)
    models = [fit_unit(recipe, paths, detector, fold) for fold in range(detector.cross_validation)]
    return BoxUnit(
        name=f"stage 0 {recipe.stage0}",
        room=ROOM,
        command=("stage0_bbox.train",),
        folder=paths.stage0,
        config=UnitConfig(detector=detector, seed=recipe.seed, folds=recipe.folds, edits=edited),
        inputs=inputs(recipe, paths, detector),
        work=work(detector),
        disk=detector.cross_validation * (170 << 20 if "resnet50" in detector.model else 20 << 20),
        gpu=True,
        outputs=(paths.boxes,),
        but_not=CHECK,
        parts=(*models, detect_unit(recipe, paths, detector)),
        boxes=paths.boxes,
        editable_boxes=paths.editable_boxes,
    )


def fit_unit(recipe: Recipe, paths: Paths, detector: Config, fold: int) -> Unit:
    """Training of one model; what only the detections or the boxes depend on is left out."""
    plain = {key: Config.model_fields[key].default for key in ("score_threshold", "margin", "vote_iou")}
    config = FitConfig(detector=detector.model_copy(update=plain), fold=fold, seed=recipe.seed, folds=recipe.folds)
    return Unit(
        name=f"stage 0 {recipe.stage0} model {fold + 1} of {detector.cross_validation}",
        room=ROOM,
        command=("stage0_bbox.train",),
        folder=paths.stage0 / f"fold{fold}",
        config=config,
        inputs=inputs(recipe, paths, detector),
        outputs=tuple(paths.stage0 / f"fold{fold}" / name for name in ("weights.safetensors", "history.csv")),
        but_not=(*AFTERWARDS, "stage0_bbox.detect"),
    )


def detect_unit(recipe: Recipe, paths: Paths, detector: Config) -> Unit:
    """Detections in every image; an edited box or another margin does not make them anew."""
    plain = {key: Config.model_fields[key].default for key in ("score_threshold", "margin")}
    weights = [paths.stage0 / f"fold{fold}" / "weights.safetensors" for fold in range(detector.cross_validation)]
    return Unit(
        name=f"stage 0 {recipe.stage0} detections",
        room=ROOM,
        command=("stage0_bbox.predict",),
        folder=paths.stage0 / "detections",
        config=DetectConfig(detector=detector.model_copy(update=plain), seed=recipe.seed, folds=recipe.folds),
        inputs=(*inputs(recipe, paths, detector), *weights),
        outputs=(paths.stage0 / "detections" / "detections.csv",),
        but_not=AFTERWARDS,
    )


def with_weights(recipe: Recipe, detector: Config) -> Config:
    """The detector, started from the recipe's weights where the recipe names some and they can fit."""
    of_an_encoder = recipe.weights not in (None, "imagenet") and detector.model == "fasterrcnn_mobilenetv2"
    fits = of_an_encoder or recipe.weights == RANDOM
    return detector.model_copy(update={"weights": recipe.weights}) if fits else detector


def inputs(recipe: Recipe, paths: Paths, detector: Config) -> tuple[Path, ...]:
    """Every file that the boxes are made from."""
    files = [paths.prepared / name for name in ("manifest.parquet", "index.parquet", "pixels.npy", "masks.npy")]
    return (*files, paths.folds, *label_files(paths, detector), *start(detector).inputs)


def start(detector: Config) -> Start:
    """What the detector starts from."""
    return Start(detector.weights, detector.model, "torchvision")


def label_files(paths: Paths, detector: Config) -> tuple[Path, ...]:
    """The label files that there are, in order of trust; never the boxes that this stage writes."""
    folders = [paths.data / "boundingbox_csv", paths.data, home() / "boundingbox_csv"]
    found = [next((f / name for f in folders if (f / name).is_file()), None) for name in detector.labels]
    return tuple(path for path in found if path and path.resolve() != paths.editable_boxes.resolve())


def work(detector: Config) -> float:
    """Training cost in seconds of the reference machine."""
    images = detector.cross_validation * detector.training.epochs * detector.epoch_images
    return COST[detector.model] / 1000 * images * (detector.size / 256) ** 2
