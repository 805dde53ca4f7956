"""Grad-CAM of the classifiers, computed by stage 1 in processes of its own, so that none imports a framework here."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline import jobs
from pipeline.report.report_steps import build_cam_step
from pipeline.run_files import RunFiles

CamMaps = dict[str, np.ndarray]


def load_cams(run: RunFiles, image_ids: list[str]) -> tuple[dict[str, CamMaps], list[str]]:
    """Member -> image_id -> uint8 [s, s] of the full frame; and a line for each member whose Grad-CAM failed."""
    if run.recipe.small:  # loading a Keras member takes longer than the rest of a trial
        return {}, ["A trial in small has no Grad-CAM."]
    cams_by_member, failures = {}, [] if run.recipe.stage1 else ["The recipe has no classifiers: there is no Grad-CAM."]
    for member in run.recipe.stage1 if image_ids else []:
        member_cams = _load_member_cams(run, member, image_ids)
        if member_cams is None:
            failures.append(f"No Grad-CAM of {member}: python -m stage1_classify.cam failed on it.")
        else:
            cams_by_member[member] = member_cams
    return cams_by_member, failures


def _load_member_cams(run: RunFiles, member: str, image_ids: list[str]) -> CamMaps | None:
    """Read from the last report's file if it fits networks and images, else computed; None if that fails."""
    step = build_cam_step(run.recipe, run.paths, member)
    (path,) = step.outputs
    cached_cams = _read_cam_file(path) if step.is_up_to_date else None
    if cached_cams is not None and set(image_ids) <= cached_cams.keys():
        return cached_cams
    step.folder.mkdir(parents=True, exist_ok=True)
    (step.folder / "run.json").unlink(missing_ok=True)
    if not _run_command(("stage1_classify.cam", member, *image_ids, "--out", str(path))):
        return None
    with step.record_run(step.identity):
        return _read_cam_file(path)


def _run_command(command: tuple[str, ...]) -> bool:
    process = jobs.start_module(command)
    try:
        return process.wait() == 0
    finally:
        jobs.terminate_processes([process])


def _read_cam_file(path: Path) -> CamMaps | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(zip(file["image_id"].tolist(), file["cam"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
