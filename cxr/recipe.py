"""A recipe: which members at which sizes make one whole solution; and which recipe and data a command works on."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cxr.config import Strict, load
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths, as_meant, home

Member = TypeVar("Member", bound=Strict)  # a stage's settings of one network, with `view`, `training`, `weights`


class Small(Strict):
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

    def cut(self, member: Member, largest: int) -> Member:
        """A member in small, `largest` being the side of its stage's largest view."""
        training = {"batch": min(self.batch, member.training.batch), "epochs": min(self.epochs, member.training.epochs)}
        training |= {"epoch_batches": self.epoch_batches, "minutes": self.minutes, "accumulate": 1}
        view, training = member.view.scaled(self.size / largest), member.training.model_copy(update=training)
        passes = {"tta_passes": 1} if getattr(member, "tta_passes", 0) else {}  # one shows that they work
        return member.model_copy(update=passes | {"view": view, "training": training, "weights": "random"})


class Recipe(Strict):
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
    small: Small | None = None
    stage0: str
    stage1: list[str]
    stage2: list[str]
    stage3: str

    @model_validator(mode="after")
    def _folds_exist(self) -> "Recipe":
        wrong = [fold for fold in self.train_folds or [] if not 0 <= fold < self.folds]
        if wrong:
            raise ValueError(f"train_folds {wrong} do not exist among {self.folds} folds (0 to {self.folds - 1})")
        return self

    @property
    def trained(self) -> list[int]:
        return list(range(self.folds)) if self.train_folds is None else sorted(set(self.train_folds))

    def smoke(self) -> "Recipe":
        """The recipe as a trial that shows in minutes that all of it runs, and learns nothing."""
        update = {"prepared_size": 128, "folds": 2, "subfolds": 2, "train_folds": None, "stage0": "smoke"}
        update |= {"name": f"{self.name}-smoke", "small": Small(), "made_for": "cpu", "weights": None}
        return self.model_copy(update=update)

    def folds_of(self, asked: int | None) -> list[int]:
        """The folds to train: the one asked for, or all that the recipe trains."""
        if asked is not None and asked not in range(self.folds):
            raise UsageError(f"--fold {asked}: recipe {self.name} has the folds 0 to {self.folds - 1}")
        return self.trained if asked is None else [asked]

    def adapted(self, members: dict[str, Member]) -> dict[str, Member]:
        """A stage's members by name, with the recipe's start weights and, for a trial in small, cut to it."""
        if self.small:
            largest = max((each.view.largest for each in members.values()), default=1)
            members = {name: self.small.cut(each, largest) for name, each in members.items()}
        if self.weights:
            members = {name: each.model_copy(update={"weights": self.weights}) for name, each in members.items()}
        return members

    def paths(self, data: Path) -> Paths:
        return Paths(data.resolve(), self.name, self.prepared_size)


def read(path: Path) -> Recipe:
    """A recipe from its file, whose name it has; its smoke trial where SMOKE=1 (run_all.sh --smoke) is set."""
    found = load(path, Recipe, name=path.stem)
    return found.smoke() if os.environ.get("SMOKE") == "1" else found


def find(name: str) -> Path:
    """The file of a recipe, given as a path or by its name alone."""
    path = Path(name)
    if path.suffix != ".yaml":
        return ROOT / "recipes" / f"{name}.yaml"
    return as_meant(name) if as_meant(name).is_file() else path


def refuse_namesake(file: Path, run: Path) -> None:
    """UsageError where a run's folder holds the results of another recipe file of the same name."""
    other = (read_json(run / "recipe.json") or {}).get("recipe")
    if other is None or other == _noted(file) or not (ROOT / other).is_file():
        return
    if (ROOT / other).read_bytes() != file.read_bytes():
        raise UsageError(
            f"{run} holds the results of {ROOT / other}, a recipe of the same name as {file}; "
            "rename one of the two, or set CXR_HOME=<folder> to keep the results elsewhere"
        )


def claim(file: Path, run: Path) -> None:
    """Note whose results a run's folder holds; UsageError as for `refuse_namesake`."""
    refuse_namesake(file, run)
    write_json(run / "recipe.json", {"recipe": _noted(file)})


def _noted(file: Path) -> str:
    """A shipped recipe as seen from the project, which may be moved; any other by its full path."""
    file = file.resolve()
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)


def chosen(say: bool = True) -> tuple[Recipe, Paths]:
    """Recipe and paths of this command: RECIPE and DATA, or what the last run used (which it then says)."""
    last = read_json(home() / "artifacts" / "last.json") or {}
    if last.get("smoke") and not os.environ.get("RECIPE"):
        os.environ.setdefault("SMOKE", "1")
    name, data = (os.environ.get(key) or last.get(key.lower()) for key in ("RECIPE", "DATA"))
    if not name or not data:
        raise UsageError("no run yet, so nothing to take up; run: bash run_all.sh (or set DATA= and RECIPE=)")
    recipe = read(find(name))
    refuse_namesake(find(name), recipe.paths(as_meant(data)).run)
    if not (os.environ.get("RECIPE") and os.environ.get("DATA")):
        if last.get("weights"):
            os.environ.setdefault("WEIGHTS", last["weights"])
        if say:
            print(f"taken from the last run: RECIPE={name} DATA={data} (set either to override)")
    return recipe, recipe.paths(as_meant(data))


def remember(recipe: Path, data: Path) -> None:
    """Note the choice of a run, and its folder of start weights, for stages that are rerun alone."""
    choice = {"recipe": str(recipe), "data": str(data), "weights": os.environ.get("WEIGHTS")}
    choice["smoke"] = os.environ.get("SMOKE") == "1"
    write_json(home() / "artifacts" / "last.json", choice)
