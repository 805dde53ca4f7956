"""The files that a run left for its report, read when first asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.errors import DataError, UsageError
from cxr.files import read_json
from cxr.paths import Paths
from cxr.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from cxr.datasets.prepared import Prepared

STEP = "stage 3 (cd stage3_stack && bash run.sh)"


def locate_report(paths: Paths) -> Path:
    """Where a run's report stands."""
    return paths.run_folder / "report.html"


@dataclass(frozen=True)
class RunFiles:
    """A run as its report sees it. What is not there, or is damaged, raises UsageError or DataError when asked for."""

    recipe: Recipe
    paths: Paths

    @cached_property
    def case_table(self) -> "pd.DataFrame":
        """tables.CASES of held-out and known test images."""
        from pipeline.compare import read_run_cases

        return read_run_cases(self.paths.run_folder)

    @cached_property
    def score_table(self) -> "pd.DataFrame":
        """Probabilities of each member and stacker, rows in the order of `case_table`."""
        import pandas as pd

        path = self.paths.stage3_folder / "scores.parquet"
        if not path.is_file():
            raise UsageError(f"stage3/scores.parquet is missing; it is made by: {STEP}")
        try:
            return pd.read_parquet(path.open("rb")).set_index("image_id").loc[self.case_table["image_id"]].reset_index()
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"stage3/scores.parquet does not fit cases.parquet ({error}); rerun {STEP}") from None

    @cached_property
    def metric_panel(self) -> dict:
        return self.read_run_json("stage3/panel.json")

    @cached_property
    def decision_record(self) -> dict:
        return self.read_run_json("stage3/decision.json")

    @cached_property
    def leak_record(self) -> dict:
        return self.read_run_json("stage3/leaks.json")

    @cached_property
    def stage3_metrics(self) -> dict:
        """What stage 3 noted of itself."""
        return self.read_run_json("stage3/run.json").get("metrics", {})

    @cached_property
    def doctor_record(self) -> dict:
        """What the doctor says; UsageError where he has not seen this data, but another folder of its name, say."""
        record = read_json(self.paths.artifacts_folder / "doctor.json")
        if record is None:
            raise UsageError("the doctor has not seen this data yet: python -m datatools.doctor")
        if Path(str(record.get("data"))).resolve() != self.paths.data_folder.resolve():
            raise UsageError(
                "doctor.json is of another data folder; for the run's: python -m datatools.doctor <its folder>"
            )
        return record

    @cached_property
    def prepared(self) -> "Prepared":
        from cxr.datasets.prepared import Prepared

        return Prepared(self.paths.prepared_folder, self.paths.folds_csv)

    def read_run_json(self, name: str) -> dict:
        """A JSON file of the run; UsageError where it is missing or damaged."""
        record = read_json(self.paths.run_folder / name)
        if record is None:
            raise UsageError(f"{name} is missing or damaged; it is made by: {STEP}")
        return record
