"""A recipe: which members at which sizes make one whole solution; and which recipe and data a command works on."""

import os
from pathlib import Path

from pydantic import Field, model_validator

from cxr.config import Strict, load
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths, as_meant, home


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
    train_folds: list[int] | None = None
    """Folds to train, all by default; [0] of 5 is a plain 80/20 split."""
    seed: int = 1
    weights: str | None = None
    """Start weights of every member, in place of those that the members name."""
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

    def folds_of(self, asked: int | None) -> list[int]:
        """The folds to train: the one asked for, or all that the recipe trains."""
        if asked is not None and asked not in range(self.folds):
            raise UsageError(f"--fold {asked}: recipe {self.name} has the folds 0 to {self.folds - 1}")
        return self.trained if asked is None else [asked]

    def paths(self, data: Path) -> Paths:
        return Paths(data.resolve(), self.name, self.prepared_size)


def read(path: Path) -> Recipe:
    """A recipe from its file; its name is the file's."""
    return load(path, Recipe, name=path.stem)


def find(name: str) -> Path:
    """The file of a recipe, given as a path or by its name alone."""
    path = Path(name)
    if path.suffix != ".yaml":
        return ROOT / "recipes" / f"{name}.yaml"
    return as_meant(name) if as_meant(name).is_file() else path


def chosen(say: bool = True) -> tuple[Recipe, Paths]:
    """Recipe and paths of this command: RECIPE and DATA, or what the last run used (which it then says)."""
    last = read_json(home() / "artifacts" / "last.json") or {}
    name, data = (os.environ.get(key) or last.get(key.lower()) for key in ("RECIPE", "DATA"))
    if not name or not data:
        raise UsageError("no run yet, so nothing to take up; run: bash run_all.sh (or set DATA= and RECIPE=)")
    recipe = read(find(name))
    if not (os.environ.get("RECIPE") and os.environ.get("DATA")):
        if last.get("weights"):
            os.environ.setdefault("WEIGHTS", last["weights"])
        if say:
            print(f"taken from the last run: RECIPE={name} DATA={data} (set either to override)")
    return recipe, recipe.paths(as_meant(data))


def remember(recipe: Path, data: Path) -> None:
    """Note the choice of a run, and its folder of start weights, for stages that are rerun alone."""
    choice = {"recipe": str(recipe), "data": str(data), "weights": os.environ.get("WEIGHTS")}
    write_json(home() / "artifacts" / "last.json", choice)
