"""Where everything lies: one place that knows the folders of a dataset and of a recipe's run."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def home_folder() -> Path:
    """The folder that holds artifacts/ and boundingbox_csv/: the project, or CXR_HOME."""
    return Path(os.environ.get("CXR_HOME", ROOT)).resolve()


def resolve_user_path(path: str) -> Path:
    """A path that a user gave, seen from where he called a script of ours (which changes the folder)."""
    return Path(os.environ.get("INVOKED_FROM", "."), path).expanduser().resolve()


@dataclass(frozen=True)
class Paths:
    """The folders of one run: `data_folder` in the Kaggle layout, seen through one recipe."""

    data_folder: Path
    recipe_name: str
    prepared_size: int

    @property
    def dataset_name(self) -> str:
        return self.data_folder.resolve().name

    @property
    def artifacts_folder(self) -> Path:
        return home_folder() / "artifacts" / self.dataset_name

    @property
    def prepared_folder(self) -> Path:
        return self.artifacts_folder / f"prepared-{self.prepared_size}"

    @property
    def prepared_image_count(self) -> int:
        """Images in the prepared data, 0 before it is there."""
        pixels_path = self.prepared_folder / "pixels.npy"
        return pixels_path.stat().st_size // self.prepared_size**2 if pixels_path.is_file() else 0

    @property
    def run_folder(self) -> Path:
        return self.artifacts_folder / self.recipe_name

    @property
    def folds_csv(self) -> Path:
        """The run's own folds: prepared data is shared between recipes, folds and boxes are not."""
        return self.run_folder / "folds" / "folds.csv"

    @property
    def boxes_csv(self) -> Path:
        """The chest boxes that this run uses, as its stage 0 wrote them."""
        return self.stage0_folder / "boxes.csv"

    @property
    def editable_boxes_csv(self) -> Path:
        """The dataset's chest boxes to look at and to correct: those of the stage 0 that wrote last, and all edits."""
        return home_folder() / "boundingbox_csv" / f"{self.dataset_name}.csv"

    @property
    def stage0_folder(self) -> Path:
        return self.run_folder / "stage0"

    @property
    def stage3_folder(self) -> Path:
        return self.run_folder / "stage3"

    @property
    def submission_csv(self) -> Path:
        return self.run_folder / "submission" / "submission.csv"

    def fold_folder(self, stage: int, member: str, fold: int) -> Path:
        """The folder of one member's model of one fold; stage: 1 or 2."""
        return self.run_folder / f"stage{stage}" / member / f"fold{fold}"
