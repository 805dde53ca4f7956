"""Grad-CAM of held-out images, each by the model of its fold, which did not see it.

[RECIPE=<recipe>] [DATA=<folder>] python -m stage1_classify.cam MEMBER IMAGE_ID... --out FILE.npz

FILE.npz: image_id [N], cam uint8 [N, 128, 128]: full frame as the prepared canvas, 255 at the image's own highest.
"""

import argparse
import importlib
from pathlib import Path

import numpy as np

from cxr.datasets import box_table
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError, run_main
from cxr.files import write_atomically
from cxr.imaging.geometry import paste_crop
from cxr.paths import Paths, resolve_user_path
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.training.cropping import inference_region
from stage1_classify import config
from stage1_classify.data import ClassifierData

SIDE = 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage1_classify.cam", description="Grad-CAM of held-out images.")
    parser.add_argument("member", help="a classifier of the recipe")
    parser.add_argument("image_id", nargs="+", help="held-out images")
    parser.add_argument("--out", required=True, help="the .npz file")
    arguments = parser.parse_args()
    recipe, paths = load_recipe_and_paths(say=False)
    if arguments.member not in recipe.stage1:
        raise UsageError(
            f"recipe {recipe.name} has no classifier {arguments.member}; it has {', '.join(recipe.stage1)}"
        )
    ids = list(dict.fromkeys(arguments.image_id))
    save_cams(resolve_user_path(arguments.out), ids, compute_full_frame_cams(recipe, paths, arguments.member, ids))


def compute_full_frame_cams(recipe: Recipe, paths: Paths, name: str, image_ids: list[str]) -> np.ndarray:
    """Grad-CAM of a member, uint8 [N, SIDE, SIDE]; raises UsageError for an image that no trained fold holds out.

    recipe: the chosen recipe.
    paths: folders of the run.
    name: of the member.
    image_ids: images, in the order wanted.
    """
    prepared, member = Prepared(paths.prepared_folder, paths.folds_csv), config.read_members(recipe, [name])[name]
    chest_boxes = box_table.read_run_boxes(paths) if member.view.crop == "box" else {}
    data = ClassifierData(prepared, chest_boxes, member, image_ids, recipe.seed)
    backend = importlib.import_module(f"stage1_classify.{member.framework}_members.grad_cam")
    cams = {}
    for fold, fold_ids in group_by_fold(prepared, recipe, image_ids).items():
        weights_path = require_weights(paths.fold_folder(1, name, fold), backend.WEIGHTS)
        fold_cams = backend.compute_cams(data, fold_ids, weights_path)
        cams |= {
            image_id: paste_on_canvas(data, image_id, cam) for image_id, cam in zip(fold_ids, fold_cams, strict=True)
        }
    return np.stack([cams[image_id] for image_id in image_ids])


def group_by_fold(prepared: Prepared, recipe: Recipe, image_ids: list[str]) -> dict[int, list[str]]:
    """The images that each trained fold holds out."""
    folds = prepared.folds["fold"]
    held_out = folds[folds.isin(recipe.folds_to_train)]
    for image_id in image_ids:
        if image_id not in held_out.index:
            raise UsageError(f"{image_id} is held out in no fold that {recipe.name} trains; take one that is")
    return {fold: [i for i in image_ids if held_out[i] == fold] for fold in sorted(set(held_out[image_ids]))}


def require_weights(folder: Path, name: str) -> Path:
    """The weights of a step; UsageError where it was not trained."""
    if not (folder / name).is_file():
        raise UsageError(f"{folder / name} is missing; it is made by: stage 1 (cd stage1_classify && bash run.sh)")
    return folder / name


def paste_on_canvas(data: ClassifierData, image_id: str, cam: np.ndarray) -> np.ndarray:
    """A map of what the member sees, [h, w] of 0 and up, in the full frame: uint8 [SIDE, SIDE]."""
    size, max_value = data.prepared.size, max(float(cam.max()), 1e-12)
    view_box = inference_region(data.member.view, data.locate_chest(image_id), size)
    return paste_crop(np.rint(255 * cam / max_value).astype(np.uint8), view_box, SIDE, size)


def save_cams(path: Path, image_ids: list[str], cams: np.ndarray) -> None:
    """Write the maps in one step."""
    with write_atomically(path) as temporary:
        np.savez_compressed(temporary, image_id=np.array(image_ids, dtype=np.str_), cam=cams)


if __name__ == "__main__":
    run_main(main)
