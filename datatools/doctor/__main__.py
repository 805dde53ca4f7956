"""Examine a data folder before a run: every problem that would spoil it, with examples and what to do.

python -m datatools.doctor [DATA] [--out FOLDER] [--workers N] [--brief]

DATA defaults to the environment's DATA, else the data of the last run, else data/. The report is printed, and written
to FOLDER (default: artifacts/<dataset>/) as doctor.json and doctor.html. Exit code 0: notes only; 4: warnings that you
should look at before a run; 3: errors at which a run stops, or with which nothing could be trained.
"""

import argparse
import os
from pathlib import Path

from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json, write_text
from cxr.paths import ROOT, Paths, home_folder, resolve_user_path


def main() -> None:
    """Command: examine a data folder and exit with the report's code."""
    parser = argparse.ArgumentParser(
        prog="python -m datatools.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", help="folder in the Kaggle layout")
    parser.add_argument("--out", help="where doctor.json and doctor.html go (default: artifacts/<dataset>/)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    parser.add_argument("--brief", action="store_true", help="print only warnings and errors, a line each")
    arguments = parser.parse_args()
    data = choose_data_folder(arguments.data)
    folder = (
        resolve_user_path(arguments.out)
        if arguments.out
        else require_same_dataset(Paths(data, "doctor", 8).artifacts_folder, data)
    )
    raise SystemExit(examine_and_report(data, folder, arguments.workers, arguments.brief))


def choose_data_folder(data_argument: str | None) -> Path:
    """The data folder: the argument, else DATA of the environment, else that of the last run, else data/."""
    data_setting = data_argument or os.environ.get("DATA")
    last_run = read_json(home_folder() / "artifacts" / "last.json") or {}
    return resolve_user_path(data_setting) if data_setting else Path(last_run.get("data") or ROOT / "data")


def require_same_dataset(artifacts: Path, data: Path) -> Path:
    """The folder `artifacts` of a data folder; UsageError where it belongs to another data folder of the same name."""
    records = (
        read_json(artifacts / name) for name in ("source.json", "doctor.json")
    )  # written by a run; by the doctor
    other_data = next((record["data"] for record in records if record and record.get("data")), None)
    if other_data and Path(other_data).resolve() != data.resolve() and Path(other_data).is_dir():
        raise UsageError(
            f"{artifacts} is of {other_data}, a folder of the same name as {data}; "
            "give --out FOLDER to have the report written elsewhere"
        )
    return artifacts


def examine_and_report(data: Path, folder: Path, workers: int | None = None, brief: bool = False) -> int:
    """Examine a data folder, print the report and write it as doctor.json and doctor.html.

    data: the data folder, in the Kaggle layout
    folder: where the report is written
    workers: processes; None: one for each processor
    brief: whether warnings and errors alone are printed, a line each

    Returns the exit code: 0, 3 or 4 (`findings.compute_exit_code`). Raises UsageError where there is no such folder,
    DataError where it is ambiguous which table is which.
    """
    from datatools.doctor import report
    from datatools.doctor.examine import examine_dataset

    dataset_report = examine_dataset(data, workers)
    write_json(folder / "doctor.json", report.as_json(dataset_report))
    write_text(folder / "doctor.html", report.render_page(dataset_report))
    print(report.format_brief(dataset_report) if brief else report.format_report(dataset_report))
    print(f"written: {folder / 'doctor.html'}, doctor.json")
    return dataset_report.exit_code


if __name__ == "__main__":
    run_main(main)
