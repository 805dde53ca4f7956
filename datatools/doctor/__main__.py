"""Examine a data folder before a run: everything that would spoil it, with examples and what to do.

python -m datatools.doctor [DATA] [--out FOLDER] [--workers N] [--brief]

DATA: the environment's DATA, the last run's, or data/. The report is printed, and written to FOLDER
(artifacts/<dataset>/) as doctor.json and doctor.html. Exit code 0: notes at most; 4: look at it before a run;
3: a run stops at it, or could train nothing.
"""

import argparse
import os
from pathlib import Path

from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json, write_text
from cxr.paths import ROOT, Paths, home_folder, resolve_user_path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datatools.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", help="folder in the Kaggle layout")
    parser.add_argument("--out", help="where doctor.json and doctor.html go (default: artifacts/<dataset>/)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    parser.add_argument("--brief", action="store_true", help="print warnings and errors alone, a line each")
    arguments = parser.parse_args()
    data = choose_data_folder(arguments.data)
    folder = (
        resolve_user_path(arguments.out)
        if arguments.out
        else require_same_dataset(Paths(data, "doctor", 8).artifacts_folder, data)
    )
    raise SystemExit(examine_and_report(data, folder, arguments.workers, arguments.brief))


def choose_data_folder(data_argument: str | None) -> Path:
    """The data folder: as given, or DATA, or the last run's, or data/."""
    data_setting = data_argument or os.environ.get("DATA")
    last_run = read_json(home_folder() / "artifacts" / "last.json") or {}
    return resolve_user_path(data_setting) if data_setting else Path(last_run.get("data") or ROOT / "data")


def require_same_dataset(artifacts: Path, data: Path) -> Path:
    """artifacts/<dataset>/ of a data folder; UsageError where it is that of another folder of the same name."""
    records = (read_json(artifacts / name) for name in ("source.json", "doctor.json"))  # of a run; of an earlier look
    other_data = next((record["data"] for record in records if record and record.get("data")), None)
    if other_data and Path(other_data).resolve() != data.resolve() and Path(other_data).is_dir():
        raise UsageError(
            f"{artifacts} is of {other_data}, a folder of the same name as {data}; "
            "give --out FOLDER to have the report written elsewhere"
        )
    return artifacts


def examine_and_report(data: Path, folder: Path, workers: int | None = None, brief: bool = False) -> int:
    """Examine `data`, print the report and write it into `folder`; the exit code."""
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
