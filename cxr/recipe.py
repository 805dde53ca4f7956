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
    """A trial in small: every member from random weights, with smaller views and few steps; it learns little."""

    size: int = Field(default=64, ge=32, multiple_of=32)
    """Side of the largest member's view; the others keep their proportion to it, in steps of 32."""
    batch: PositiveInt = 4
    epochs: PositiveInt = 1
    epoch_batches: PositiveInt | None = 1
    """Most batches of an epoch."""
    minutes: PositiveFloat | None = None
    """Train each network for so many minutes instead of epochs."""
    steps: PositiveInt = 20
    """Most steps that a head of stage 3 trains for."""

    def shrink_member(self, member: Member, largest_view_size: int) -> Member:
        """A member in small, `largest_view_size` being the side of its stage's largest view."""
        training = {"batch": min(self.batch, member.training.batch), "epochs": min(self.epochs, member.training.epochs)}
        training |= {"epoch_batches": self.epoch_batches, "minutes": self.minutes, "accumulate": 1}
        view, training = (
            member.view.scale_sides(self.size / largest_view_size),
            member.training.model_copy(update=training),
        )
        pass_settings = {"tta_passes": 1} if getattr(member, "tta_passes", 0) else {}  # one shows that they work
        return member.model_copy(update=pass_settings | {"view": view, "training": training, "weights": "random"})


class Recipe(StrictModel):
    """One file of recipes/; the names are those of files in the stages' configs/ folders."""

    name: str
    about: str
    """One line: what it rebuilds, and for what machine."""
    made_for: str = "cpu"
    """cpu or gpu; a recipe for a GPU says so on a machine without one, and names `smaller`."""
    smaller: str | None = None
    prepared_size: int = Field(ge=8, multiple_of=8)
    folds: int = Field(ge=2)
    subfolds: int = Field(default=4, ge=2)
    val_share: float = Field(default=0.1, gt=0, le=0.25)
    """Share of the training folds' patients that members which choose by a validation score validate on."""
    train_folds: list[int] | None = None
    """Folds to train, all by default; [0] of 5 is a plain 80/20 split."""
    seed: int = 1
    weights: str | None = None
    """What every member starts from ('random', 'imagenet' or a file's name), in place of what the members name."""
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
        """The recipe as a trial that shows in minutes that all of it runs, and learns nothing."""
        changes = {"prepared_size": 128, "folds": 2, "subfolds": 2, "train_folds": None, "stage0": "smoke"}
        changes |= {"name": f"{self.name}-smoke", "small": SmallTrial(), "made_for": "cpu", "weights": None}
        return self.model_copy(update=changes)

    def select_folds(self, fold: int | None) -> list[int]:
        """The folds to train: the one asked for, or all that the recipe trains."""
        if fold is not None and fold not in range(self.folds):
            raise UsageError(f"--fold {fold}: recipe {self.name} has the folds 0 to {self.folds - 1}")
        return self.folds_to_train if fold is None else [fold]

    def adapt_members(self, members: dict[str, Member]) -> dict[str, Member]:
        """A stage's members by name, with the recipe's start weights and, for a trial in small, cut to it."""
        if self.small:
            largest_view_size = max((member.view.inference_size for member in members.values()), default=1)
            members = {name: self.small.shrink_member(member, largest_view_size) for name, member in members.items()}
        if self.weights:
            members = {name: member.model_copy(update={"weights": self.weights}) for name, member in members.items()}
        return members

    def build_paths(self, data: Path) -> Paths:
        return Paths(data.resolve(), self.name, self.prepared_size)


def read_recipe(path: Path) -> Recipe:
    """A recipe from its file, whose name it has; its smoke trial where SMOKE=1 (run_all.sh --smoke) is set."""
    recipe = load_settings(path, Recipe, name=path.stem)
    return recipe.smoke_trial() if os.environ.get("SMOKE") == "1" else recipe


def find_recipe(name: str) -> Path:
    """The file of a recipe, given as a path or by its name alone."""
    path = Path(name)
    if path.suffix != ".yaml":
        return ROOT / "recipes" / f"{name}.yaml"
    return resolve_user_path(name) if resolve_user_path(name).is_file() else path


def refuse_namesake(recipe_file: Path, run_folder: Path) -> None:
    """UsageError where a run's folder holds the results of another recipe file of the same name."""
    recorded_name = (read_json(run_folder / "recipe.json") or {}).get("recipe")
    if recorded_name is None or recorded_name == _portable_name(recipe_file) or not (ROOT / recorded_name).is_file():
        return
    if (ROOT / recorded_name).read_bytes() != recipe_file.read_bytes():
        raise UsageError(
            f"{run_folder} holds the results of {ROOT / recorded_name}, a recipe of the same name as {recipe_file}; "
            "rename one of the two, or set CXR_HOME=<folder> to keep the results elsewhere"
        )


def claim_run_folder(recipe_file: Path, run_folder: Path) -> None:
    """Note whose results a run's folder holds; UsageError as for `refuse_namesake`."""
    refuse_namesake(recipe_file, run_folder)
    write_json(run_folder / "recipe.json", {"recipe": _portable_name(recipe_file)})


def _portable_name(recipe_file: Path) -> str:
    """A shipped recipe as seen from the project, which may be moved; any other by its full path."""
    recipe_file = recipe_file.resolve()
    return str(recipe_file.relative_to(ROOT)) if recipe_file.is_relative_to(ROOT) else str(recipe_file)


def load_recipe_and_paths(say: bool = True) -> tuple[Recipe, Paths]:
    """Recipe and paths of this command: RECIPE and DATA, or what the last run used (which it then says)."""
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
    """Note the choice of a run, and its folder of start weights, for stages that are rerun alone."""
    choice = {"recipe": str(recipe_file), "data": str(data), "weights": os.environ.get("WEIGHTS")}
    choice["smoke"] = os.environ.get("SMOKE") == "1"
    write_json(home_folder() / "artifacts" / "last.json", choice)
