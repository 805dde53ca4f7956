"""The report of the last run, or of two runs side by side.

[RECIPE=<recipe>] [DATA=<folder>] python -m pipeline.report [--compare RUN_A RUN_B] [--out FILE.html]
RUN: a run's folder, artifacts/<dataset>/<recipe>.
"""

import argparse

from cxr.errors import UsageError, run_main
from cxr.paths import as_meant
from cxr.recipe import chosen
from pipeline.report import write


def main() -> None:
    parser = argparse.ArgumentParser(prog="pipeline.report", description="A run's report, one page of HTML.")
    parser.add_argument("--compare", nargs=2, metavar=("RUN_A", "RUN_B"), help="two runs' folders, side by side")
    parser.add_argument("--out", help="with --compare: the page; by default RUN_A/compare/<RUN_B's name>.html")
    asked = parser.parse_args()
    if asked.out and not asked.compare:
        raise UsageError("--out goes with --compare; a run's own report is always its report.html")
    if not asked.compare:
        write(*chosen())
        return
    from pipeline.report import compare

    runs = [as_meant(run) for run in asked.compare]
    out = as_meant(asked.out) if asked.out else runs[0] / "compare" / f"{runs[1].name}.html"
    compare.write(*runs, out)
    print(out)


if __name__ == "__main__":
    run_main(main)
