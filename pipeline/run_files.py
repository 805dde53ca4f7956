"""The files of a run, each read in one place: for its pictures, its report, its comparison and its closing message."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.datasets import box_table, kaggle
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from cxr.files import read_json
from cxr.paths import Paths
from cxr.recipe import Recipe

STAGE3_STEP = "stage 3 (cd stage3_stack && bash run.sh)"
RERUN_STAGE3 = "the run's stage 3 (RECIPE=<recipe> DATA=<folder> bash run_all.sh)"
"""What makes stage 3's files again where only the run's folder is given, so that its recipe is not known."""


def read_run_cases(run_folder: Path) -> pd.DataFrame:
    """tables.CASES of a run's held-out and known test images, from stage3/cases.parquet.

    Raises UsageError where it is missing, DataError where it is damaged.
    """
    from evaluation.panel import check_cases  # SciPy takes a third of a second

    path = run_folder / "stage3" / "cases.parquet"
    try:
        return check_cases(tables.read_table(path, tables.CASES, RERUN_STAGE3))
    except (OSError, ValueError) as error:  # pyarrow's are of these
        raise DataError(f"{path} cannot be read ({error}); FORCE=1 makes it anew, with {RERUN_STAGE3}") from None


def read_metric_panel(run_folder: Path) -> dict | None:
    """stage3/panel.json: every metric with its interval, see evaluation.panel; None where it is missing or damaged."""
    return read_json(run_folder / "stage3" / "panel.json")


def read_doctor_record(paths: Paths) -> dict | None:
    """doctor.json of a dataset; None where it is missing or damaged."""
    return read_json(paths.artifacts_folder / "doctor.json")


def read_step_record(folder: Path) -> dict:
    """run.json of a finished step: seconds, metrics, config and more; empty where it is missing or damaged."""
    return read_json(folder / "run.json") or {}


@dataclass(frozen=True)
class TrainingHistory:
    """One training: its rows of history.csv, and the epochs whose weights were kept, if known."""

    rows: pd.DataFrame
    kept_epochs: list[int]


@dataclass(frozen=True)
class RunFiles:
    """A run's files, each read when it is first needed and then kept.

    A property raises UsageError or DataError where its file is missing or damaged. A method that looks one image or
    one training up returns None where there is nothing of it.
    """

    recipe: Recipe
    paths: Paths

    @cached_property
    def prepared(self) -> Prepared:
        """The prepared data and the run's folds."""
        return Prepared(self.paths.prepared_folder, self.paths.folds_csv)

    @cached_property
    def doctor_record(self) -> dict:
        """doctor.json; UsageError where the data check has not run on this data folder, but on one of its name."""
        record = read_doctor_record(self.paths)
        if record is None:
            raise UsageError("the doctor has not seen this data yet: python -m datatools.doctor")
        if Path(str(record.get("data"))).resolve() != self.paths.data_folder.resolve():
            raise UsageError(
                "doctor.json is of another data folder; for the run's: python -m datatools.doctor <its folder>"
            )
        return record

    @cached_property
    def stage0_metrics(self) -> dict:
        """How well the chest boxes agree with hand-drawn ones, as stage 0 measured it."""
        metrics = read_step_record(self.paths.stage0_folder).get("metrics")
        if metrics is None:
            raise UsageError("stage0/run.json is missing or damaged; it is made by: " + box_table.STAGE0_STEP)
        return metrics

    @cached_property
    def chest_boxes(self) -> pd.DataFrame:
        """tables.BOXES, in the originals' pixels."""
        return box_table.read_boxes_table(self.paths.boxes_csv)

    @cached_property
    def _tables_by_path(self) -> dict[Path, pd.DataFrame | None]:
        return {}

    def _read_indexed_table(self, path: Path, schema: tables.Schema) -> pd.DataFrame | None:
        """A table indexed by image_id; None where there is no file."""
        if path not in self._tables_by_path:
            table = tables.read_table(path, schema, "").set_index("image_id", drop=False) if path.is_file() else None
            self._tables_by_path[path] = table
        return self._tables_by_path[path]

    def read_predictions(self, member: str, fold: int) -> pd.DataFrame | None:
        """tables.PREDICTIONS of one classifier's fold, by image_id."""
        path = self.paths.fold_folder(1, member, fold) / "predictions.parquet"
        return self._read_indexed_table(path, tables.PREDICTIONS)

    def read_prob_map(self, folder: Path, image_id: str) -> tuple[np.ndarray, float] | None:
        """An image's map in `folder`, uint8 [s, s] of 0..255, and its label head's probability, nan without a head."""
        index = self._read_indexed_table(folder / "index.parquet", tables.MAP_INDEX)
        if index is None or image_id not in index.index or not (folder / "maps.npy").is_file():
            return None
        row = index.loc[image_id]
        return np.array(np.load(folder / "maps.npy", mmap_mode="r")[row["row"]]), float(row["prob"])

    def read_training_history(self, stage: int, member: str, fold: int) -> TrainingHistory | None:
        """The curves of a training that has ended, from its history.csv and run.json.

        stage: 1 for a classifier, 2 for a segmenter
        member: its name in the recipe
        fold: the fold that it holds out
        """
        folder = self.paths.fold_folder(stage, member, fold)
        if not (folder / "history.csv").is_file():
            return None
        metrics = read_step_record(folder).get("metrics", {})
        return TrainingHistory(pd.read_csv(folder / "history.csv"), metrics.get("kept_epochs", []))

    @property
    def stacked_table(self) -> pd.DataFrame | None:
        """tables.STACKED by image_id; None before stage 3."""
        return self._read_indexed_table(self.paths.stage3_folder / "stacked.parquet", tables.STACKED)

    @cached_property
    def case_table(self) -> pd.DataFrame:
        """tables.CASES of held-out and known test images."""
        return read_run_cases(self.paths.run_folder)

    @cached_property
    def score_table(self) -> pd.DataFrame:
        """Probabilities of each member and stacker, rows in the order of `case_table`."""
        path = self.paths.stage3_folder / "scores.parquet"
        if not path.is_file():
            raise UsageError(f"stage3/scores.parquet is missing; it is made by: {STAGE3_STEP}")
        try:
            return pd.read_parquet(path.open("rb")).set_index("image_id").loc[self.case_table["image_id"]].reset_index()
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"stage3/scores.parquet does not fit cases.parquet ({error}); rerun {STAGE3_STEP}"
            ) from None

    @cached_property
    def metric_panel(self) -> dict:
        """Every metric with its interval, see evaluation.panel."""
        return _require_record(read_metric_panel(self.paths.run_folder), "stage3/panel.json")

    @cached_property
    def decision_record(self) -> dict:
        """decision.json: the thresholds for the test and for each held-out group, and how they were chosen."""
        return self._read_stage3_json("decision.json")

    @cached_property
    def leak_record(self) -> dict:
        """leaks.json: patients and near-duplicates on both sides of a fold, see evaluation.leakage."""
        return self._read_stage3_json("leaks.json")

    @cached_property
    def stage3_metrics(self) -> dict:
        """The metrics in stage 3's run.json: which stacker is used, among others."""
        return self._read_stage3_json("run.json").get("metrics", {})

    @cached_property
    def search_arrays(self) -> dict[str, np.ndarray] | None:
        """search.npz: Kaggle's Dice over the thresholds; None where nothing was searched, DataError where damaged."""
        path = self.paths.stage3_folder / "search.npz"
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError) as error:
            raise DataError(f"stage3/search.npz cannot be read ({error}); FORCE=1 makes it anew") from None

    def _read_stage3_json(self, name: str) -> dict:
        return _require_record(read_json(self.paths.stage3_folder / name), f"stage3/{name}")

    @cached_property
    def _submission_rows(self) -> dict[str, list[kaggle.MaskRow]]:
        return kaggle.read_mask_rows(self.paths.submission_csv)

    def read_submitted_codes(self, image_id: str) -> list[str] | None:
        """The run-length codes that were submitted for a test image; None before there is a submission."""
        if not self.paths.submission_csv.is_file():
            return None
        return [row.code for row in self._submission_rows.get(image_id, [])]

    @cached_property
    def _test_truth_rows(self) -> dict[str, list[kaggle.MaskRow]]:
        patterns = ("test-truth.csv", "*/test-truth.csv")
        path = next((path for pattern in patterns for path in self.paths.data_folder.glob(pattern)), None)
        return kaggle.read_mask_rows(path) if path else {}

    def read_test_truth_codes(self, image_id: str) -> list[str]:
        """The run-length codes of a test image's true masks, which phantoms have; empty where they are not known."""
        return [row.code for row in self._test_truth_rows.get(image_id, [])]


def _require_record(record: dict | None, name: str) -> dict:
    """The record; UsageError that names its file where it is None."""
    if record is None:
        raise UsageError(f"{name} is missing or damaged; it is made by: {STAGE3_STEP}")
    return record
