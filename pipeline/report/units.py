"""What a run's pictures, its page and the page's Grad-CAMs are made from: units, as the stages' are."""

import os
from collections.abc import Iterator
from pathlib import Path

from cxr.config import Strict
from cxr.paths import ROOT, Paths
from cxr.plan import Unit
from cxr.recipe import Recipe
from pipeline.report.sources import place
from pipeline.stages import ROOMS

PICTURES = ("class_balance.png", "overlays.png", "curves.png")
CAM_BACKENDS = ("stage1_classify.cam.timm_maps", "stage1_classify.cam.keras_maps")


class ShownConfig(Strict):
    """What titles say of a run."""

    recipe: Recipe
    dataset: str


class CamConfig(Strict):
    """Whose Grad-CAMs."""

    member: str


def picture_unit(recipe: Recipe, paths: Paths) -> Unit:
    """The pictures of a run."""
    folder = paths.run / "pictures"
    return Unit(
        name="pictures", room="pipeline", command=("pipeline.pictures",), folder=folder,
        config=ShownConfig(recipe=recipe, dataset=paths.dataset), inputs=tuple(_shown(paths)),
        outputs=tuple(folder / name for name in PICTURES),
    )  # fmt: skip


def page_unit(recipe: Recipe, paths: Paths) -> Unit:
    """The page of a run."""
    looks = [path for kind in ("html", "css") for path in sorted((ROOT / "pipeline" / "report").glob(f"*.{kind}"))]
    return Unit(
        name="report", room="pipeline", command=("pipeline.report",), folder=paths.run / "page",
        config=ShownConfig(recipe=recipe, dataset=paths.dataset), inputs=(*_shown(paths), *looks),
        outputs=(place(paths), *(path for member in recipe.stage1 for path in _of_cams(paths, member))),
    )  # fmt: skip


def cam_unit(recipe: Recipe, paths: Paths, member: str) -> Unit:
    """Grad-CAMs of a classifier: of which images, the page decides."""
    folders = [paths.unit(1, member, fold) for fold in recipe.trained]
    return Unit(
        name=f"Grad-CAM of {member}", room=ROOMS["stage1"], command=("stage1_classify.cam",),
        folder=paths.run / "cam" / member, config=CamConfig(member=member), also=CAM_BACKENDS,
        inputs=tuple(path for folder in folders for path in sorted(folder.glob("weights.*"))),
        outputs=_of_cams(paths, member)[:1],
    )  # fmt: skip


def _of_cams(paths: Paths, member: str) -> tuple[Path, Path]:
    """The Grad-CAMs of a classifier, and what is noted of them."""
    return paths.run / "cam" / f"{member}.npz", paths.run / "cam" / member / "run.json"


def _shown(paths: Paths) -> Iterator[Path]:
    """The files that tell whether a run is as it was shown."""
    yield from (paths.artifacts / "doctor.json", paths.prepared / "manifest.parquet", paths.boxes)
    yield from (paths.prepared / "run.json", paths.folds.parent / "run.json")
    for stage in ROOMS:
        for folder, _, names in os.walk(paths.run / stage):
            yield from (Path(folder, name) for name in names if name in ("run.json", "history.csv"))
    yield from (path for suffix in ("json", "parquet", "npz") for path in paths.stage3.glob(f"*.{suffix}")
                if path.name != "run.json")  # fmt: skip
