"""Write the last run's prepared data in a layout that other software reads.

python -m datatools.export --to jpeg-classes | png-masks | h5 | tfrecord | coco | nnunet | monai
                     [--out FOLDER] [--size N] [--crop box|full]

Without --size and --crop box, every layout is bit-equal to the prepared pixels and masks, except jpeg-classes, whose
JPEGs are lossy (quality 95).
"""

import argparse
import time
from importlib import import_module
from pathlib import Path
from typing import Literal

from pydantic import Field

from cxr.config import StrictModel, validate_settings
from cxr.datasets import box_table
from cxr.datasets.prepared import PREPARE_STEP, Prepared
from cxr.errors import UsageError, run_main
from cxr.files import read_json
from cxr.paths import Paths, resolve_user_path
from cxr.recipe import Recipe, load_recipe_and_paths
from datatools.export.export_folder import replace_export
from datatools.export.export_source import SPLITS, Source

LAYOUTS = {  # name on the command line -> module of datatools/export
    "jpeg-classes": "jpeg_classes", "png-masks": "png_masks", "h5": "hdf5", "tfrecord": "tfrecord",
    "coco": "coco", "nnunet": "nnunet", "monai": "monai_datalist",
}  # fmt: skip


class ExportConfig(StrictModel):
    """Settings of an export, from the command line."""

    to: Literal[tuple(LAYOUTS)]
    size: int | None = Field(default=None, ge=8, le=4096)
    """Side of the exported images in pixels; None: the prepared size."""
    crop: Literal["box", "full"] = "full"
    """box: the chest box, stretched to a square; full: the whole letterboxed image."""


def main() -> None:
    """Command: export the prepared data of the last run."""
    parser = argparse.ArgumentParser(
        prog="python -m datatools.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, choices=LAYOUTS, metavar="LAYOUT")
    parser.add_argument("--out", help="a new folder, or an older export (default: artifacts/<dataset>/export/LAYOUT)")
    parser.add_argument("--size", type=int, help="side of the images in pixels (default: as prepared)")
    parser.add_argument("--crop", choices=("box", "full"), default="full", help="default: full")
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    settings = validate_settings(arguments, ExportConfig, "export")
    recipe, paths = load_recipe_and_paths()
    export_prepared_data(
        recipe, paths, settings, resolve_user_path(out) if out else paths.artifacts_folder / "export" / settings.to
    )


def export_prepared_data(recipe: Recipe, paths: Paths, settings: ExportConfig, out: Path) -> None:
    """Write the prepared data of a recipe to a folder, which appears only when it is complete.

    recipe: whose folds are exported
    paths: where the prepared data, folds and chest boxes lie
    settings: layout, size and crop
    out: the folder; an older export there is replaced

    Raises UsageError where prepare or stage 0 has not run, or `out` holds anything but an export; DataError for an
    image id that cannot be a file name.
    """
    source, fingerprint = _open_source(recipe, paths, settings), _read_fingerprint(paths)
    record = {
        "dataset": paths.dataset_name, "recipe": recipe.name, "layout": settings.to, "crop": settings.crop,
        "size": source.size, "folds": recipe.folds, "images": source.image_counts, "prepared": fingerprint,
    }  # fmt: skip
    start = time.perf_counter()
    with replace_export(out, record) as folder:
        import_module(f"datatools.export.{LAYOUTS[settings.to]}").write_layout(source, folder)
        if _read_fingerprint(paths) != fingerprint:
            raise UsageError(f"{paths.prepared_folder} was made anew during the export; export again")
    rate = sum(source.image_counts.values()) / (time.perf_counter() - start)
    counts = ", ".join(f"{count} {split}" for split, count in source.image_counts.items())
    print(f"export: {counts}; {rate:.0f} images a second; {out}")


def _open_source(recipe: Recipe, paths: Paths, settings: ExportConfig) -> Source:
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    # The editable table may be there without a run of stage 0.
    boxes_path = paths.boxes_csv if paths.boxes_csv.is_file() else paths.editable_boxes_csv
    wants_boxes = settings.crop == "box" or (settings.to == "coco" and boxes_path.is_file())
    chest_boxes = box_table.read_boxes(boxes_path) if wants_boxes else {}
    splits = SPLITS[:2] if settings.to == "nnunet" else SPLITS  # nnU-Net has no place for unlabelled images
    return Source(prepared, chest_boxes, settings.size or prepared.size, settings.crop, splits)


def _read_fingerprint(paths: Paths) -> str:
    """The fingerprint of the prepared data; UsageError without run.json, which is missing while prepare runs."""
    record = read_json(paths.prepared_folder / "run.json")
    if record is None:
        raise UsageError(f"{paths.prepared_folder} is not there or not finished; it is made by: {PREPARE_STEP}")
    return record["fingerprint"]


if __name__ == "__main__":
    run_main(main)
