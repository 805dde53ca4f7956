"""Examine a data folder before a run: everything that would spoil it, with examples and what to do.

python -m cxr.doctor [DATA] [--out FOLDER] [--workers N] [--brief]

DATA: the environment's DATA, the last run's, or data/. The report is printed, and written to FOLDER
(artifacts/<dataset>/) as doctor.json and doctor.html. Exit code 0: notes at most; 4: look at it before a run;
3: a run stops at it, or could train nothing.
"""

import argparse
import os
from pathlib import Path

from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json, write_text
from cxr.paths import ROOT, Paths, as_meant, home


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cxr.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", help="folder in the Kaggle layout")
    parser.add_argument("--out", help="where doctor.json and doctor.html go (default: artifacts/<dataset>/)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    parser.add_argument("--brief", action="store_true", help="print warnings and errors alone, a line each")
    given = parser.parse_args()
    data = choose(given.data)
    out = as_meant(given.out) if given.out else own(Paths(data, "doctor", 8).artifacts, data)
    raise SystemExit(examine(data, out, given.workers, given.brief))


def choose(given: str | None) -> Path:
    """The data folder: as given, or DATA, or the last run's, or data/."""
    named = given or os.environ.get("DATA")
    last = read_json(home() / "artifacts" / "last.json") or {}
    return as_meant(named) if named else Path(last.get("data") or ROOT / "data")


def own(artifacts: Path, data: Path) -> Path:
    """artifacts/<dataset>/ of a data folder; UsageError where it is that of another folder of the same name."""
    notes = (read_json(artifacts / name) for name in ("source.json", "doctor.json"))  # of a run; of an earlier look
    other = next((note["data"] for note in notes if note and note.get("data")), None)
    if other and Path(other).resolve() != data.resolve() and Path(other).is_dir():
        raise UsageError(
            f"{artifacts} is of {other}, a folder of the same name as {data}; "
            "give --out FOLDER to have the report written elsewhere"
        )
    return artifacts


def examine(data: Path, out: Path, workers: int | None = None, brief: bool = False) -> int:
    """Examine `data`, print the report and write it into `out`; the exit code."""
    from cxr.doctor import report
    from cxr.doctor.examine import examine

    found = examine(data, workers)
    write_json(out / "doctor.json", report.as_json(found))
    write_text(out / "doctor.html", report.as_page(found))
    print(report.in_brief(found) if brief else report.as_text(found))
    print(f"written: {out / 'doctor.html'}, doctor.json")
    return found.exit_code


if __name__ == "__main__":
    run_main(main)
