"""Grad-CAM of the classifiers, asked of stage 1 in processes of its own: a framework never enters this one."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline import jobs
from pipeline.report.sources import Sources
from pipeline.report.units import cam_unit

Maps = dict[str, np.ndarray]


def maps(run: Sources, image_ids: list[str]) -> tuple[dict[str, Maps], list[str]]:
    """Member -> image_id -> uint8 [s, s], full frame; and a line for each member that gave none."""
    if run.recipe.small:  # a Keras member takes longer to load than all else of a trial
        return {}, ["A trial in small has no Grad-CAM."]
    found, failed = {}, [] if run.recipe.stage1 else ["The recipe has no classifiers: there is no Grad-CAM."]
    for member in run.recipe.stage1 if image_ids else []:
        own = _of_member(run, member, image_ids)
        if own is None:
            failed.append(f"No Grad-CAM of {member}: python -m stage1_classify.cam failed on it.")
        else:
            found[member] = own
    return found, failed


def _of_member(run: Sources, member: str, image_ids: list[str]) -> Maps | None:
    """As the last report left them, where they are of the same networks and of these images at least."""
    unit = cam_unit(run.recipe, run.paths, member)
    (path,) = unit.outputs
    kept = _read(path) if unit.current else None
    if kept is not None and set(image_ids) <= kept.keys():
        return kept
    unit.folder.mkdir(parents=True, exist_ok=True)
    (unit.folder / "run.json").unlink(missing_ok=True)
    if not _run(("stage1_classify.cam", member, *image_ids, "--out", str(path))):
        return None
    with unit.recorded(unit.identity):
        return _read(path)


def _run(command: tuple[str, ...]) -> bool:
    process = jobs.start(command)
    try:
        return process.wait() == 0
    finally:
        jobs.end([process])


def _read(path: Path) -> Maps | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(zip(file["image_id"].tolist(), file["cam"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
