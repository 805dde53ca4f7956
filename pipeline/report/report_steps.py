"""The steps that make a run's pictures, its page and the page's Grad-CAMs: what each is made from."""

import os
from collections.abc import Iterator
from pathlib import Path

from cxr.config import StrictModel
from cxr.paths import ROOT, Paths
from cxr.recipe import Recipe
from cxr.step import Step
from pipeline.stages import STAGE_PACKAGES

PICTURE_NAMES = ("class_balance.png", "overlays.png", "curves.png")
CAM_BACKENDS = ("stage1_classify.timm_members.grad_cam", "stage1_classify.keras_members.grad_cam")


class RunTitleConfig(StrictModel):
    """Settings that titles show."""

    recipe: Recipe
    dataset: str


class CamConfig(StrictModel):
    """Settings of a classifier's Grad-CAMs."""

    member: str


def locate_report(paths: Paths) -> Path:
    """The path of a run's report."""
    return paths.run_folder / "report.html"


def build_picture_step(recipe: Recipe, paths: Paths) -> Step:
    """The step that draws a run's pictures."""
    folder = paths.run_folder / "pictures"
    return Step(
        name="pictures", room="pipeline", command=("pipeline.pictures",), folder=folder,
        settings=RunTitleConfig(recipe=recipe, dataset=paths.dataset_name), inputs=tuple(_list_shown_files(paths)),
        outputs=tuple(folder / name for name in PICTURE_NAMES),
    )  # fmt: skip


def build_page_step(recipe: Recipe, paths: Paths) -> Step:
    """The step that writes a run's page."""
    folder = ROOT / "pipeline" / "report"
    layout_files = [path for kind in ("html", "css") for path in sorted(folder.glob(f"*.{kind}"))]
    return Step(
        name="report", room="pipeline", command=("pipeline.report",), folder=paths.run_folder / "page",
        settings=RunTitleConfig(recipe=recipe, dataset=paths.dataset_name),
        inputs=(*_list_shown_files(paths), *layout_files),
        outputs=(locate_report(paths), *(path for member in recipe.stage1 for path in _cam_outputs(paths, member))),
    )  # fmt: skip


def build_cam_step(recipe: Recipe, paths: Paths, member: str) -> Step:
    """The step that computes a classifier's Grad-CAMs; the page chooses the images."""
    folders = [paths.fold_folder(1, member, fold) for fold in recipe.folds_to_train]
    return Step(
        name=f"Grad-CAM of {member}", room=STAGE_PACKAGES["stage1"], command=("stage1_classify.cam",),
        folder=paths.run_folder / "cam" / member, settings=CamConfig(member=member), chosen_modules=CAM_BACKENDS,
        inputs=tuple(path for folder in folders for path in sorted(folder.glob("weights.*"))),
        outputs=_cam_outputs(paths, member)[:1],
    )  # fmt: skip


def _cam_outputs(paths: Paths, member: str) -> tuple[Path, Path]:
    """The Grad-CAMs of a classifier, and their run.json."""
    return paths.run_folder / "cam" / f"{member}.npz", paths.run_folder / "cam" / member / "run.json"


def _list_shown_files(paths: Paths) -> Iterator[Path]:
    """The files whose change makes the page and the pictures out of date."""
    yield from (paths.artifacts_folder / "doctor.json", paths.prepared_folder / "manifest.parquet", paths.boxes_csv)
    yield from (paths.prepared_folder / "run.json", paths.folds_csv.parent / "run.json")
    for stage in STAGE_PACKAGES:
        for folder, _, names in os.walk(paths.run_folder / stage):
            yield from (Path(folder, name) for name in names if name in ("run.json", "history.csv"))
    yield from (path for suffix in ("json", "parquet", "npz") for path in paths.stage3_folder.glob(f"*.{suffix}")
                if path.name != "run.json")  # fmt: skip
