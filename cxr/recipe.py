"""A recipe: which members at which sizes make one whole solution; and which recipe and data a command works on."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cxr.config import StrictModel, load_settings
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths, home_folder, resolve_user_path

Member = TypeVar("Member", bound=StrictModel)  # a stage's settings of one network, with `view`, `training`, `weights`


class SmallTrial(StrictModel):
    """A small trial: every member from random weights, with smaller views and few steps; it learns little."""

    size: int = Field(default=64, ge=32, multiple_of=32)
    """Side of the largest member's view in pixels; the others are scaled alike, in steps of 32."""
    batch: PositiveInt = 4
    epochs: PositiveInt = 1
    epoch_batches: PositiveInt | None = 1
    """Maximum of batches per epoch."""
    minutes: PositiveFloat | None = None
    """Train each network for this many minutes instead of epochs."""
    steps: PositiveInt = 20
    """Maximum of steps of a head of stage 3."""

    def shrink_member(self, member: Member, largest_view_size: int) -> Member:
        """The member for the trial; `largest_view_size`: side of the largest view in its stage, in pixels."""
        limits = {"batch": min(self.batch, member.training.batch), "epochs": min(self.epochs, member.training.epochs)}
        limits |= {"epoch_batches": self.epoch_batches, "minutes": self.minutes, "accumulate": 1}
        view = member.view.scale_sides(self.size / largest_view_size)
        changes = {"view": view, "training": member.training.model_copy(update=limits), "weights": "random"}
        if getattr(member, "tta_passes", 0):
            changes["tta_passes"] = 1  # enough to show that passes work
        return member.model_copy(update=changes)


class Recipe(StrictModel):
    """One file of recipes/; stage0 to stage3 name files in the stages' configs/ folders."""

    name: str
    about: str
    """One line: what it reproduces, and on what machine."""
    made_for: str = "cpu"
    """cpu or gpu; on a machine without a GPU, a run prints a note that it will be slow, and names `smaller`."""
    smaller: str | None = None
    prepared_size: int = Field(ge=8, multiple_of=8)
    folds: int = Field(ge=2)
    subfolds: int = Field(default=4, ge=2)
    val_share: float = Field(default=0.1, gt=0, le=0.25)
    """Share of the training folds' patients in the validation set of members that use one."""
    train_folds: list[int] | None = None
    """Folds to train, all by default; [0] of 5 is a plain 80/20 split."""
    seed: int = 1
    weights: str | None = None
    """Start weights of every member ('random', 'imagenet' or a file's name) in place of the members' own."""
    small: SmallTrial | None = None
    stage0: str
    stage1: list[str]
    stage2: list[str]
    stage3: str

    @model_validator(mode="after")
    def _check_train_folds(self) -> "Recipe":
        missing_folds = [fold for fold in self.train_folds or [] if not 0 <= fold < self.folds]
        if missing_folds:
            raise ValueError(
                f"train_folds {missing_folds} do not exist among {self.folds} folds (0 to {self.folds - 1})"
            )
        return self

    @property
    def folds_to_train(self) -> list[int]:
        return list(range(self.folds)) if self.train_folds is None else sorted(set(self.train_folds))

    def smoke_trial(self) -> "Recipe":
        """A trial of the recipe that shows in minutes that all of it runs; it learns nothing."""
        changes = {"prepared_size": 128, "folds": 2, "subfolds": 2, "train_folds": None, "stage0": "smoke"}
        changes |= {"name": f"{self.name}-smoke", "small": SmallTrial(), "made_for": "cpu", "weights": None}
        return self.model_copy(update=changes)

    def select_folds(self, fold: int | None) -> list[int]:
        """The fold itself, or with None all that the recipe trains; UsageError for a fold that does not exist."""
        if fold is not None and fold not in range(self.folds):
            raise UsageError(f"--fold {fold}: recipe {self.name} has the folds 0 to {self.folds - 1}")
        return self.folds_to_train if fold is None else [fold]

    def adapt_members(self, members: dict[str, Member]) -> dict[str, Member]:
        """A stage's members by name, with the recipe's start weights and, in a small trial, its smaller settings."""
        if self.small:
            largest_view_size = max((member.view.inference_size for member in members.values()), default=1)
            members = {name: self.small.shrink_member(member, largest_view_size) for name, member in members.items()}
        if self.weights:
            members = {name: member.model_copy(update={"weights": self.weights}) for name, member in members.items()}
        return members

    def build_paths(self, data: Path) -> Paths:
        return Paths(data.resolve(), self.name, self.prepared_size)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file, named after it; its smoke trial if SMOKE=1 is set (run_all.sh --smoke)."""
    recipe = load_settings(path, Recipe, name=path.stem)
    return recipe.smoke_trial() if os.environ.get("SMOKE") == "1" else recipe


def find_recipe(name: str) -> Path:
    """The file of a recipe that is given as a path or by its name alone."""
    path = Path(name)
    if path.suffix != ".yaml":
        return ROOT / "recipes" / f"{name}.yaml"
    return resolve_user_path(name) if resolve_user_path(name).is_file() else path


def refuse_namesake(recipe_file: Path, run_folder: Path) -> None:
    """UsageError if a run's folder holds the results of another recipe file of the same name."""
    recorded_name = (read_json(run_folder / "recipe.json") or {}).get("recipe")
    if recorded_name is None or recorded_name == _portable_name(recipe_file) or not (ROOT / recorded_name).is_file():
        return
    if (ROOT / recorded_name).read_bytes() != recipe_file.read_bytes():
        raise UsageError(
            f"{run_folder} holds the results of {ROOT / recorded_name}, a recipe of the same name as {recipe_file}; "
            "rename one of the two, or set CXR_HOME=<folder> to keep the results elsewhere"
        )


def claim_run_folder(recipe_file: Path, run_folder: Path) -> None:
    """Record in a run's folder which recipe file it belongs to; UsageError as for `refuse_namesake`."""
    refuse_namesake(recipe_file, run_folder)
    write_json(run_folder / "recipe.json", {"recipe": _portable_name(recipe_file)})


def _portable_name(recipe_file: Path) -> str:
    """The path of a shipped recipe relative to the project, which may be moved; else the full path."""
    recipe_file = recipe_file.resolve()
    return str(recipe_file.relative_to(ROOT)) if recipe_file.is_relative_to(ROOT) else str(recipe_file)


def load_recipe_and_paths(say: bool = True) -> tuple[Recipe, Paths]:
    """Recipe and paths of this command, by RECIPE and DATA, or those of the last run, which are printed if `say`."""
    last_choice = read_json(home_folder() / "artifacts" / "last.json") or {}
    if last_choice.get("smoke") and not os.environ.get("RECIPE"):
        os.environ.setdefault("SMOKE", "1")
    recipe_name, data = (os.environ.get(key) or last_choice.get(key.lower()) for key in ("RECIPE", "DATA"))
    if not recipe_name or not data:
        raise UsageError("no run yet, so nothing to take up; run: bash run_all.sh (or set DATA= and RECIPE=)")
    recipe = read_recipe(find_recipe(recipe_name))
    refuse_namesake(find_recipe(recipe_name), recipe.build_paths(resolve_user_path(data)).run_folder)
    if not (os.environ.get("RECIPE") and os.environ.get("DATA")):
        if last_choice.get("weights"):
            os.environ.setdefault("WEIGHTS", last_choice["weights"])
        if say:
            print(f"taken from the last run: RECIPE={recipe_name} DATA={data} (set either to override)")
    return recipe, recipe.build_paths(resolve_user_path(data))


def remember_choice(recipe_file: Path, data: Path) -> None:
    """Record a run's recipe, data and folder of start weights, for stages that are rerun alone."""
    choice = {"recipe": str(recipe_file), "data": str(data), "weights": os.environ.get("WEIGHTS")}
    choice["smoke"] = os.environ.get("SMOKE") == "1"
    write_json(home_folder() / "artifacts" / "last.json", choice)
