"""Draw all that a run has on one image: original, box, crop, probabilities, maps, final mask, truth.

[RECIPE=<recipe>] [DATA=<folder>] python -m pipeline.show IMAGE_ID [--out FILE.png]
"""

import argparse
import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cxr import runs
from cxr.datasets.image_ids import parse_image_id
from cxr.errors import UsageError, run_main
from cxr.files import write_atomically
from cxr.imaging.geometry import resize_image, snap_to_pixels
from cxr.recipe import load_recipe_and_paths
from pipeline.pictures.image_record import ImageRecord, gather_image_record
from pipeline.run_files import RunFiles
from pipeline.stages import list_outputs

TRUTH_COLOUR, MASK_COLOUR, BOX_COLOUR = "#35d07f", "#ff4f5e", "#ffc233"
LINE_WIDTH = 1.2
MIN_BARS = 6  # there is room for so many, so that a single bar does not fill the panel


def main() -> None:
    parser = argparse.ArgumentParser(prog="pipeline.show", description="One picture of all that a run has on an image.")
    parser.add_argument("image_id", help="its id or file's name, or a part that only one image has")
    parser.add_argument("--out", type=Path, help="the picture's file (.png); by default in the run's folder show/")
    arguments = parser.parse_args()
    recipe, paths = load_recipe_and_paths()
    with runs.name_damaged_inputs(list_outputs(recipe, paths)):
        run = RunFiles(recipe, paths)
        image_id = find_image_id(arguments.image_id, run.prepared.manifest.index.tolist())
        out = arguments.out or paths.run_folder / "show" / f"{image_id}.png"
        draw_image_record(image_id, run, out)
    print(out)


def find_image_id(name: str, image_ids: list[str]) -> str:
    """The image id that equals `name`, a file's name, or alone contains it; else UsageError with the nearest ids."""
    name = parse_image_id(name)
    if name in image_ids:
        return name
    matches = [image_id for image_id in image_ids if name and name in image_id]
    if len(matches) == 1:
        return matches[0]
    suggestions = matches[:5] or difflib.get_close_matches(name, image_ids, n=5, cutoff=0.3) or image_ids[:5]
    reason = f"stands in {len(matches)} ids" if matches else "is no image of this run"
    raise UsageError(f"'{name}' {reason}; nearest: {', '.join(suggestions)}")


def draw_image_record(image_id: str, run: RunFiles, out: Path) -> None:
    """Write the picture of an image to `out`, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    record = gather_image_record(image_id, run)
    map_panels = [_make_map_panel(name) for name in record.prob_maps]
    panels = [_draw_original, _draw_crop, _draw_probabilities, *map_panels, _draw_final_mask]
    columns = min((4, 3), key=lambda count: -len(panels) % count)  # the fewest gaps
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.1 * columns, 4.5 * rows + 0.8), squeeze=False)
    _fill_panels(axes.flat, panels, record)
    figure.suptitle(_format_title(record, run), fontsize=11)
    figure.text(0.01, 0.005, _format_footer(record), fontsize=8, color="#555555")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    with write_atomically(out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
    pyplot.close(figure)


def _fill_panels(axes, panels: list[Callable], record: ImageRecord) -> None:
    """Draw a panel on each axis; axes that are left over stay empty."""
    for axis in axes[len(panels) :]:
        axis.axis("off")
    for draw_panel, axis in zip(panels, axes, strict=False):
        draw_panel(axis, record)


def _format_title(record: ImageRecord, run: RunFiles) -> str:
    held_out = f", held out in fold {record.fold}" if record.fold is not None else ""
    return (
        f"{record.image_id}\n{run.paths.dataset_name}, recipe {run.recipe.name}; {record.split}{held_out}; "
        f"truth: {_describe_truth(record)}"
    )


def _describe_truth(record: ImageRecord) -> str:
    if record.truth_mask is None:
        return "unknown"
    if not record.truth_mask.any():
        return "no pneumothorax"
    return f"pneumothorax, {record.truth_mask.mean():.2%} of the frame"


def _format_footer(record: ImageRecord) -> str:
    missing_text = f"Missing: {', '.join(record.missing_outputs)}. " if record.missing_outputs else ""
    return f"{missing_text}Research use only."


def _show_canvas(axis, canvas: np.ndarray, title: str) -> None:
    axis.imshow(canvas, cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=10)
    axis.axis("off")


def _outline_mask(axis, mask: np.ndarray | None, colour: str) -> None:
    if mask is not None and mask.any():
        axis.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=LINE_WIDTH)


def _draw_original(axis, record: ImageRecord) -> None:
    _show_canvas(axis, record.canvas, "original" + (f"; box: {record.box_note}" if record.box else ""))
    _outline_mask(axis, record.truth_mask, TRUTH_COLOUR)
    if record.box:
        from matplotlib.patches import Rectangle

        corner = (record.box.xmin - 0.5, record.box.ymin - 0.5)
        style = {"fill": False, "edgecolor": BOX_COLOUR, "linewidth": LINE_WIDTH}
        axis.add_patch(Rectangle(corner, record.box.width, record.box.height, **style))


def _draw_crop(axis, record: ImageRecord) -> None:
    if record.box is None:
        axis.axis("off")
        return
    xmin, ymin, xmax, ymax = snap_to_pixels(record.box, record.canvas.shape[0])
    title = f"crop, {xmax - xmin} x {ymax - ymin} of {record.canvas.shape[0]}"
    _show_canvas(axis, record.canvas[ymin:ymax, xmin:xmax], title)


def _draw_probabilities(axis, record: ImageRecord) -> None:
    """A bar for each model, the stack below, and the threshold that the stack's probability must reach."""
    bars = record.probs | ({} if record.stacked_prob is None else {"stack": record.stacked_prob})
    for position, (name, value) in enumerate(bars.items()):
        axis.barh(position, value, color="#f2848d" if name == "stack" else "#b4c0d0", height=0.8)
        axis.text(0.015, position, name, va="center", fontsize=8)
        axis.text(0.985, position, f"{value:.2f}", va="center", ha="right", fontsize=8)
    title = "probability"
    if record.probability_threshold is not None:
        axis.axvline(record.probability_threshold, color="black", linestyle="--", linewidth=1)
        title += f" (dashed: the stack's threshold, {record.probability_threshold:.2f})"
    axis.set(xlim=(0, 1), ylim=(max(len(bars), MIN_BARS) - 0.5, -0.5), yticks=[], box_aspect=1)
    axis.set_title(title, fontsize=10)


def _make_map_panel(name: str) -> Callable:
    """A function that draws the map of one segmenter or of the mask stack."""

    def draw_map_panel(axis, record: ImageRecord) -> None:
        prob_map = resize_image(record.prob_maps[name], *record.canvas.shape)
        _show_canvas(axis, record.canvas, f"{name}, highest {record.prob_maps[name].max() / 255:.2f}")
        axis.imshow(prob_map / 255, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(prob_map / 160, 0, 0.75))
        _outline_mask(axis, record.truth_mask, TRUTH_COLOUR)

    return draw_map_panel


def _draw_final_mask(axis, record: ImageRecord) -> None:
    _show_canvas(axis, record.canvas, _describe_final_mask(record))
    _outline_mask(axis, record.truth_mask, TRUTH_COLOUR)
    if record.final_mask is not None and record.final_mask.any():
        tint = np.zeros((*record.final_mask.shape, 4))
        tint[record.final_mask] = (1.0, 0.31, 0.37, 0.45)
        axis.imshow(tint)


def _describe_final_mask(record: ImageRecord) -> str:
    if record.final_mask is None:
        return "no final mask"
    mask_text = f"final mask (red) {record.final_mask.mean():.2%}" if record.final_mask.any() else "final mask: empty"
    if record.truth_mask is None:
        return mask_text
    total = int(record.final_mask.sum()) + int(record.truth_mask.sum())
    dice = 2 * int((record.final_mask & record.truth_mask).sum()) / total if total else 1.0
    return f"{mask_text}; truth (green)\nDice {dice:.2f}"


if __name__ == "__main__":
    run_main(main)
