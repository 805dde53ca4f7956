"""The report of a run: one HTML page that opens offline, artifacts/<dataset>/<recipe>/report.html.

blocks.py    what a page is made of            page.py      the page, from page.html and style.css
sources.py   the files that a run left         published.py what others report, as points of the ROC curve
compare.py   two runs in one page
One module for each chapter: headline, ranking, stack, lesions, thresholds, chest_boxes, training, gallery (with
thumbnails.py and cams.py), material, steps. A chapter that lacks a file is left out, and says so.
"""

import os
from pathlib import Path

from cxr.paths import Paths
from cxr.recipe import Recipe
from pipeline.report.sources import newest, place


def write(recipe: Recipe, paths: Paths) -> Path:
    """Write a run's report where one of its files is newer than the page; returns the page's path.

    Raises UsageError where the data is not prepared.
    """
    path = place(paths)
    if current(paths):
        print(f"report: up to date, {path}")
        return path
    from pipeline.report import page  # matplotlib and pandas take a second

    page.write(recipe, paths, path)
    print(f"report: {path}")
    return path


def current(paths: Paths) -> bool:
    """Whether a run's page is as new as all that it is made from, and FORCE does not ask for it anew."""
    path = place(paths)
    return os.environ.get("FORCE") != "1" and path.is_file() and path.stat().st_mtime >= newest(paths)
