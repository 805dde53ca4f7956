"""The report of a run: one HTML page that opens offline, artifacts/<dataset>/<recipe>/report.html.

page.py           the page, from page.html and style.css, and the list of its chapters
blocks.py         what a page is made of
report_steps.py   what the page and the pictures are made from
compare.py        two runs in one page
published_scores.py  what others report, as points of the ROC curve
One module for each chapter: headline, ranking, stackers, lesions, thresholds, gallery (with thumbnails.py and cams.py),
chest_boxes, training, dataset, provenance. They read the run's files through pipeline/run_files.py; a chapter that
lacks a file is left out, with a line that names it.
"""

from pathlib import Path

from cxr.paths import Paths
from cxr.recipe import Recipe
from pipeline.report.report_steps import build_page_step, locate_report


def write_report(recipe: Recipe, paths: Paths) -> Path:
    """Write a run's report, unless it is up to date; returns the page's path.

    Raises UsageError where the data is not prepared.
    """
    path, step = locate_report(paths), build_page_step(recipe, paths)
    identity = step.identity  # from before it begins: what is written meanwhile makes the page old
    if step.is_up_to_date:
        print(f"report: up to date, {path}")
        return path
    from pipeline.report import page  # matplotlib and pandas take a second

    with step.record_run(identity):
        page.write_page(recipe, paths, path)
    print(f"report: {path}")
    return path
