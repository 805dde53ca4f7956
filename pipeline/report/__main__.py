"""Write the report of the last run, or of two runs side by side.

[RECIPE=<recipe>] [DATA=<folder>] python -m pipeline.report [--compare RUN_A RUN_B] [--out FILE.html]
RUN: a run's folder, artifacts/<dataset>/<recipe>.
"""

import argparse

from cxr.errors import UsageError, run_main
from cxr.paths import resolve_user_path
from cxr.recipe import load_recipe_and_paths
from pipeline.report import write_report


def main() -> None:
    parser = argparse.ArgumentParser(prog="pipeline.report", description="A run's report, one page of HTML.")
    parser.add_argument("--compare", nargs=2, metavar=("RUN_A", "RUN_B"), help="two runs' folders, side by side")
    parser.add_argument("--out", help="with --compare: the page; by default RUN_A/compare/<RUN_B's name>.html")
    arguments = parser.parse_args()
    if arguments.out and not arguments.compare:
        raise UsageError("--out goes with --compare; a run's own report is always its report.html")
    if not arguments.compare:
        write_report(*load_recipe_and_paths())
        return
    from pipeline.report import compare

    run_folders = [resolve_user_path(run) for run in arguments.compare]
    default_out = run_folders[0] / "compare" / f"{run_folders[1].name}.html"
    out = resolve_user_path(arguments.out) if arguments.out else default_out
    compare.write_comparison(*run_folders, out)
    print(out)


if __name__ == "__main__":
    run_main(main)
