"""The report of a run: one HTML page that opens offline, artifacts/<dataset>/<recipe>/report.html.

blocks.py    what a page is made of            page.py      the page, from page.html and style.css
sources.py   the files that a run left         published.py what others report, as points of the ROC curve
units.py     what page and pictures are made from
compare.py   two runs in one page
One module for each chapter: headline, ranking, stack, lesions, thresholds, chest_boxes, training, gallery (with
thumbnails.py and cams.py), material, steps. A chapter that lacks a file is left out, and says so.
"""

from pathlib import Path

from cxr.paths import Paths
from cxr.recipe import Recipe
from pipeline.report.report_steps import build_page_step
from pipeline.report.sources import locate_report


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
