"""Write the last run's prepared data in a layout that other software reads.

python -m cxr.export --to jpeg-classes | png-masks | h5 | tfrecord | coco | nnunet | monai
                     [--out FOLDER] [--size N] [--crop box|full]

At the prepared size and whole, everything is bit-equal to the prepared pixels and masks, but for jpeg-classes, which
loses a little (quality 95).
"""

import argparse
import time
from importlib import import_module
from pathlib import Path
from typing import Literal

from pydantic import Field

from cxr import boxes
from cxr.config import Strict, validate
from cxr.errors import UsageError, run_main
from cxr.export.place import replaced
from cxr.export.source import SPLITS, Source
from cxr.files import read_json
from cxr.paths import Paths, as_meant
from cxr.prepared import STEP, Prepared
from cxr.recipe import Recipe, chosen

LAYOUTS = {
    "jpeg-classes": "jpeg_classes", "png-masks": "png_masks", "h5": "hdf5", "tfrecord": "tfrecord",
    "coco": "coco", "nnunet": "nnunet", "monai": "monai_datalist",
}  # fmt: skip


class ExportConfig(Strict):
    """What the command line may say beside the place."""

    to: Literal[tuple(LAYOUTS)]
    size: int | None = Field(default=None, ge=8, le=4096)
    """Side of the exported images, in pixels; as prepared by default."""
    crop: Literal["box", "full"] = "full"
    """The chest box that stage 0 found, stretched to a square, or the whole letterboxed image."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cxr.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, choices=LAYOUTS, metavar="LAYOUT")
    parser.add_argument("--out", help="a new folder, or an older export (default: artifacts/<dataset>/export/LAYOUT)")
    parser.add_argument("--size", type=int, help="side of the images in pixels (default: as prepared)")
    parser.add_argument("--crop", choices=("box", "full"), default="full", help="default: full")
    given = vars(parser.parse_args())
    out = given.pop("out")
    config = validate(given, ExportConfig, "export")
    recipe, paths = chosen()
    export(recipe, paths, config, as_meant(out) if out else paths.artifacts / "export" / config.to)


def export(recipe: Recipe, paths: Paths, config: ExportConfig, out: Path) -> None:
    """Write the prepared data of a recipe to `out`, which appears when it is complete.

    Raises UsageError where prepare or stage 0 has not run, or `out` holds what is no export;
    DataError for an image id that cannot name a file.
    """
    source, prepared = _source(recipe, paths, config), _fingerprint(paths)
    facts = {
        "dataset": paths.dataset, "recipe": recipe.name, "layout": config.to, "crop": config.crop,
        "size": source.size, "folds": recipe.folds, "images": source.counts, "prepared": prepared,
    }  # fmt: skip
    start = time.perf_counter()
    with replaced(out, facts) as folder:
        import_module(f"cxr.export.{LAYOUTS[config.to]}").write(source, folder)
        if _fingerprint(paths) != prepared:
            raise UsageError(f"{paths.prepared} was made anew during the export; export again")
    rate = sum(source.counts.values()) / (time.perf_counter() - start)
    counts = ", ".join(f"{count} {split}" for split, count in source.counts.items())
    print(f"export: {counts}; {rate:.0f} images a second; {out}")


def _source(recipe: Recipe, paths: Paths, config: ExportConfig) -> Source:
    prepared = Prepared(paths.prepared, paths.folds)
    table = paths.boxes if paths.boxes.is_file() else paths.editable_boxes  # which may have come without a stage 0
    wants_boxes = config.crop == "box" or (config.to == "coco" and table.is_file())
    found = boxes.read(table) if wants_boxes else {}
    splits = SPLITS[:2] if config.to == "nnunet" else SPLITS  # nnU-Net has no place for unlabelled images
    return Source(prepared, found, config.size or prepared.size, config.crop, splits)


def _fingerprint(paths: Paths) -> str:
    """What the prepared data was made from; its run.json is there only while no prepare is at work."""
    record = read_json(paths.prepared / "run.json")
    if record is None:
        raise UsageError(f"{paths.prepared} is not there or not finished; it is made by: {STEP}")
    return record["fingerprint"]


if __name__ == "__main__":
    run_main(main)
