"""Where everything lies: one place that knows the folders of a dataset and of a recipe's run."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The folder that holds artifacts/ and boundingbox_csv/: the project, or CXR_HOME."""
    return Path(os.environ.get("CXR_HOME", ROOT)).resolve()


def as_meant(path: str) -> Path:
    """A path that a user gave, seen from where he called a script of ours (which changes the folder)."""
    return Path(os.environ.get("INVOKED_FROM", "."), path).expanduser().resolve()


@dataclass(frozen=True)
class Paths:
    """The folders of one run: `data` in the Kaggle layout, seen through one recipe."""

    data: Path
    recipe: str
    prepared_size: int

    @property
    def dataset(self) -> str:
        return self.data.resolve().name

    @property
    def artifacts(self) -> Path:
        return home() / "artifacts" / self.dataset

    @property
    def prepared(self) -> Path:
        return self.artifacts / f"prepared-{self.prepared_size}"

    @property
    def prepared_images(self) -> int:
        """Images in the prepared data, 0 before it is there."""
        pixels = self.prepared / "pixels.npy"
        return pixels.stat().st_size // self.prepared_size**2 if pixels.is_file() else 0

    @property
    def run(self) -> Path:
        return self.artifacts / self.recipe

    @property
    def folds(self) -> Path:
        """The run's own folds: prepared data is shared between recipes, folds and boxes are not."""
        return self.run / "folds" / "folds.csv"

    @property
    def boxes(self) -> Path:
        """The chest boxes that this run uses, as its stage 0 wrote them."""
        return self.stage0 / "boxes.csv"

    @property
    def editable_boxes(self) -> Path:
        """The dataset's chest boxes to look at and to correct: those of the stage 0 that wrote last, and all edits."""
        return home() / "boundingbox_csv" / f"{self.dataset}.csv"

    @property
    def stage0(self) -> Path:
        return self.run / "stage0"

    @property
    def stage3(self) -> Path:
        return self.run / "stage3"

    @property
    def submission(self) -> Path:
        return self.run / "submission" / "submission.csv"

    def unit(self, stage: int, member: str, fold: int) -> Path:
        """The folder of one member's model of one fold."""
        return self.run / f"stage{stage}" / member / f"fold{fold}"
