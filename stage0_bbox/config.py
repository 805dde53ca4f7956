"""Settings of the chest detector, and the step of stage 0. Imports no framework."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cxr.config import StrictModel, load_settings
from cxr.paths import Paths, home_folder
from cxr.recipe import Recipe
from cxr.step import Step
from cxr.training.augment import Augmentation
from cxr.training.settings import Training
from cxr.training.start_weights import MISSING_WEIGHTS, RANDOM, StartWeights
from stage0_bbox import box_edits

ROOM = Path(__file__).parent.name
CONFIGS = Path(__file__).parent / "configs"
CHECK = ("stage0_bbox.check",)
"""Runs before any step; not part of a step's code, as its result, the start weights' file, is an input."""
BOX_MODULES = (*CHECK, *(f"stage0_bbox.{name}" for name in ("choose_boxes", "box_edits", "overview", "scores")))
"""Modules that turn detections into boxes: no network depends on them."""
# Milliseconds to train on one image of 256 x 256 (2 cores, float32): only their ratios are used.
TRAINING_MS = {"fasterrcnn_mobilenetv2": 60, "fasterrcnn_resnet50_fpn_v2": 4000}


class Moves(StrictModel):
    """Random geometric augmentation of a training image and its box."""

    hflip: float = Field(default=0.0, ge=0, le=1)
    """Probability of a mirror image."""
    shift: float = Field(default=0.0, ge=0, lt=0.5)
    """Largest shift along each axis, as a share of the frame."""
    zoom: float = Field(default=0.0, ge=0, lt=0.5)
    """Largest change of scale: between 1 - zoom and 1 + zoom."""


class DetectorConfig(StrictModel):
    """The detector: a file of configs/."""

    model: Literal["fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenetv2"]
    size: int = Field(ge=64, multiple_of=32)
    """Side of the square that the network sees, in pixels: the whole canvas, resized."""
    weights: str | None = None
    """Start: 'coco' (of the ResNet-50; a file <model>_coco in WEIGHTS or weights/, else the hub's), the name of another
    file there, or 'random' (weights/README.md). Required."""
    recalibrate: bool = False
    """Set batch norm's statistics on the training images before the first step."""
    labels: tuple[str, ...] = Field(min_length=1)
    """Files of boxes in order of trust. The first has the hand labels; only they are scored against. The others add
    boxes for training. Searched in the data's boundingbox_csv/, in the data folder, in our boundingbox_csv/."""
    cross_validation: int = Field(default=2, ge=2)
    """Count of models: each is trained without one fold of the boxed patients, whose images it then predicts."""
    score_threshold: float = Field(default=0.5, ge=0, le=1)
    """Below this score the mean box of the training labels is used."""
    margin: float = Field(default=0.02, ge=0, lt=1)
    """Each side of a found box is pushed out by this share of the box's extent."""
    vote_iou: float = Field(default=0.7, gt=0, le=1)
    """The found box is the score-weighted mean of the detections that overlap the best one by this much."""
    epoch_images: int = Field(gt=0)
    """Training images in an epoch; with fewer labels each is shown several times, moved in other ways."""
    moves: Moves = Moves()
    augment: Augmentation = Augmentation()
    """Of the gray values only; geometry is in `moves`, because the box has to move along."""
    training: Training

    @field_validator("augment")
    @classmethod
    def _forbid_geometric_augments(cls, augment: Augmentation) -> Augmentation:
        if augment.hflip or augment.rotate or augment.distort:
            raise ValueError("hflip, rotate and distort would leave the box behind; see moves")
        return augment

    @model_validator(mode="after")
    def _require_fitting_start(self) -> "DetectorConfig":
        if self.weights is None:
            raise ValueError(MISSING_WEIGHTS.replace("imagenet", "coco"))
        if self.weights == "imagenet" or (self.weights == "coco" and "resnet50" not in self.model):
            raise ValueError(f"weights: there are no {self.weights} ones of {self.model}; name a file, or write random")
        return self


class FitStepConfig(StrictModel):
    """All that one of the cross-validation's models depends on, apart from its input files."""

    detector: DetectorConfig
    fold: int
    seed: int
    folds: int


class DetectStepConfig(StrictModel):
    """All that the detections depend on, apart from the models and the pixels."""

    detector: DetectorConfig
    seed: int
    folds: int


class BoxStepConfig(StrictModel):
    """All that the boxes depend on, apart from their input files."""

    detector: DetectorConfig
    seed: int
    folds: int
    edits: str
    """Digest of the boxes that the user edited."""


@dataclass(frozen=True)
class BoxStep(Step):
    """Stage 0's step: up to date only while the table that the user may edit is complete and its picture exists."""

    boxes_csv: Path = Path()
    """This run's boxes, for the later stages."""
    editable_boxes_csv: Path = Path()

    @property
    def is_up_to_date(self) -> bool:
        path = self.editable_boxes_csv
        if not super().is_up_to_date or not box_edits.is_complete_jpeg(path.with_suffix(".jpg")):
            return False
        return box_edits.is_table_complete(path, self.boxes_csv)


def read_detector_settings(name: str) -> DetectorConfig:
    """The settings of a detector, by name."""
    return load_settings(CONFIGS / f"{name}.yaml", DetectorConfig)


def units(recipe: Recipe, paths: Paths) -> list[Step]:
    """The one step of stage 0."""
    return [build_box_step(recipe, paths, apply_recipe_weights(recipe, read_detector_settings(recipe.stage0)))]


def build_box_step(recipe: Recipe, paths: Paths, detector: DetectorConfig) -> BoxStep:
    """Training of the cross-validation's models, and the boxes of every image."""
    box_edits.restore_cut_table(paths.editable_boxes_csv)
    edits_digest = box_edits.digest_edits(paths.editable_boxes_csv)
    fit_steps = [build_fit_step(recipe, paths, detector, fold) for fold in range(detector.cross_validation)]
    return BoxStep(
        name=f"stage 0 {recipe.stage0}",
        room=ROOM,
        command=("stage0_bbox.train",),
        folder=paths.stage0_folder,
        settings=BoxStepConfig(detector=detector, seed=recipe.seed, folds=recipe.folds, edits=edits_digest),
        inputs=list_input_files(recipe, paths, detector),
        work_seconds=estimate_detector_cost(detector),
        disk_bytes=detector.cross_validation * (170 << 20 if "resnet50" in detector.model else 20 << 20),
        needs_gpu=True,
        outputs=(paths.boxes_csv,),
        excluded_modules=CHECK,
        substeps=(*fit_steps, build_detect_step(recipe, paths, detector)),
        boxes_csv=paths.boxes_csv,
        editable_boxes_csv=paths.editable_boxes_csv,
    )


def build_fit_step(recipe: Recipe, paths: Paths, detector: DetectorConfig, fold: int) -> Step:
    """Training of one model of the cross-validation.

    recipe: seed and count of folds
    paths: of the run
    detector: its settings; those that only the detections or the boxes depend on are set to their defaults
    fold: the model's held-out fold, 0 to detector.cross_validation - 1
    """
    defaults = {key: DetectorConfig.model_fields[key].default for key in ("score_threshold", "margin", "vote_iou")}
    folder = paths.stage0_folder / f"fold{fold}"
    fit_detector = detector.model_copy(update=defaults)
    return Step(
        name=f"stage 0 {recipe.stage0} model {fold + 1} of {detector.cross_validation}",
        room=ROOM,
        command=("stage0_bbox.train",),
        folder=folder,
        settings=FitStepConfig(detector=fit_detector, fold=fold, seed=recipe.seed, folds=recipe.folds),
        inputs=list_input_files(recipe, paths, detector),
        outputs=(folder / "weights.safetensors", folder / "history.csv"),
        excluded_modules=(*BOX_MODULES, "stage0_bbox.detect"),
    )


def build_detect_step(recipe: Recipe, paths: Paths, detector: DetectorConfig) -> Step:
    """Detections in every image; they stay up to date when a box is edited or the margin changes."""
    defaults = {key: DetectorConfig.model_fields[key].default for key in ("score_threshold", "margin")}
    weights = [paths.stage0_folder / f"fold{fold}" / "weights.safetensors" for fold in range(detector.cross_validation)]
    return Step(
        name=f"stage 0 {recipe.stage0} detections",
        room=ROOM,
        command=("stage0_bbox.predict",),
        folder=paths.stage0_folder / "detections",
        settings=DetectStepConfig(detector=detector.model_copy(update=defaults), seed=recipe.seed, folds=recipe.folds),
        inputs=(*list_input_files(recipe, paths, detector), *weights),
        outputs=(paths.stage0_folder / "detections" / "detections.csv",),
        excluded_modules=BOX_MODULES,
    )


def apply_recipe_weights(recipe: Recipe, detector: DetectorConfig) -> DetectorConfig:
    """The detector, with the recipe's start weights if the recipe names some that can fit it."""
    takes_encoder_file = recipe.weights not in (None, "imagenet") and detector.model == "fasterrcnn_mobilenetv2"
    fits = takes_encoder_file or recipe.weights == RANDOM
    return detector.model_copy(update={"weights": recipe.weights}) if fits else detector


def list_input_files(recipe: Recipe, paths: Paths, detector: DetectorConfig) -> tuple[Path, ...]:
    """Every file that the boxes are made from."""
    files = [paths.prepared_folder / name for name in ("manifest.parquet", "index.parquet", "pixels.npy", "masks.npy")]
    return (*files, paths.folds_csv, *find_label_files(paths, detector), *get_start_weights(detector).input_files)


def get_start_weights(detector: DetectorConfig) -> StartWeights:
    """The start weights that the settings name."""
    return StartWeights(detector.weights, detector.model, "torchvision")


def find_label_files(paths: Paths, detector: DetectorConfig) -> tuple[Path, ...]:
    """The label files that exist, in order of trust; never the table that this stage writes."""
    folders = [paths.data_folder / "boundingbox_csv", paths.data_folder, home_folder() / "boundingbox_csv"]
    label_paths = [next((f / name for f in folders if (f / name).is_file()), None) for name in detector.labels]
    return tuple(path for path in label_paths if path and path.resolve() != paths.editable_boxes_csv.resolve())


def estimate_detector_cost(detector: DetectorConfig) -> float:
    """Training cost in seconds of the reference machine."""
    images = detector.cross_validation * detector.training.epochs * detector.epoch_images
    return TRAINING_MS[detector.model] / 1000 * images * (detector.size / 256) ** 2
