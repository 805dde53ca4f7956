"""The steps of stage 3: what each is made from, and what it leaves."""

from pathlib import Path

from cxr.config import StrictModel
from cxr.paths import Paths
from cxr.recipe import Recipe
from cxr.step import Step
from stage3_stack.config.files import chest_tubes_path, map_folder, stacked_map_folder, test_truth_path
from stage3_stack.config.settings import Config, MaskStackerConfig, read_stack_settings

ROOM = "stage3_stack"
OUTPUT_NAMES = (
    "heads.npz", "search.npz", "stacked.parquet", "cases.parquet", "scores.parquet", "panel.json", "leaks.json",
)  # fmt: skip
"""What stage 3 leaves in its folder, beside decision.json."""
MASK_COST = 0.15  # seconds that an image of 256 x 256 costs in the mask stacker's training, on two cores


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


def units(recipe: Recipe, paths: Paths) -> list[Step]:
    """The steps of a recipe: the mask stack, if its settings use one, then stage 3 itself."""
    settings = read_stack_settings(recipe)
    mask_steps = [build_mask_step(recipe, paths, settings)] if settings.masks == "stacker" else []
    return [*mask_steps, build_stack_step(recipe, paths, settings)]


def build_stack_step(recipe: Recipe, paths: Paths, settings: Config) -> Step:
    """The step that stacks, chooses thresholds, writes the submission and scores, with these settings."""
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
    """The step that trains the mask stacker's networks and writes their maps."""
    unit = MaskUnitConfig(
        stacker=settings.mask_stacker, segmenters=recipe.stage2,
        folds=recipe.folds, trained=recipe.folds_to_train, seed=recipe.seed,
    )  # fmt: skip
    folder, prepared_files = stacked_map_folder(paths), ("index.parquet", "pixels.npy", "masks.npy", "manifest.parquet")
    side = recipe.small.size if recipe.small else recipe.prepared_size // 2  # members often see half the size
    nets = recipe.folds_to_train if len(recipe.folds_to_train) > 1 else range(recipe.subfolds)
    files = [f"net{net}/{name}" for net in nets for name in ("weights.safetensors", "history.csv")]
    image_count = len(nets) * settings.mask_stacker.steps * settings.mask_stacker.batch
    return Step(
        name="stage 3 mask stack", room=ROOM, command=("stage3_stack.mask_stacker.train",), folder=folder,
        settings=unit,
        inputs=(
            *_stage2_files(recipe, paths), *(paths.prepared_folder / name for name in prepared_files), paths.folds_csv,
        ),
        needs_gpu=True, work_seconds=MASK_COST * image_count * (side / 256) ** 2,
        disk_bytes=paths.prepared_image_count * side**2,
        outputs=tuple(folder / name for name in ("maps.npy", "index.parquet", *files)),
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
    """The mask stacker's maps and the chest boxes, if they are used."""
    map_files = [stacked_map_folder(paths) / name for name in ("maps.npy", "index.parquet")]
    uses_boxes = "box" in settings.lightgbm.columns and paths.boxes_csv.is_file()
    return [*(map_files if settings.masks == "stacker" else []), *([paths.boxes_csv] if uses_boxes else [])]
