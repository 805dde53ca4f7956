"""One picture of all that is known of an image: original, box, crop, probabilities, maps, final mask, truth.

[RECIPE=<recipe>] [DATA=<folder>] python -m pipeline.show IMAGE_ID [--out FILE.png]
"""

import argparse
import difflib
from pathlib import Path

import numpy as np

from cxr import runs
from cxr.errors import UsageError, run_main
from cxr.files import replacing
from cxr.geometry import resize, whole
from cxr.ids import image_id
from cxr.paths import Paths
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from pipeline.known import Known, gather
from pipeline.stages import every_output

TRUTH, FOUND, BOX = "#35d07f", "#ff4f5e", "#ffc233"
LINE = 1.2
FEWEST_BARS = 6  # room is left for so many, so that one bar alone is not a wall


def main() -> None:
    parser = argparse.ArgumentParser(prog="pipeline.show", description="One picture of all that is known of an image.")
    parser.add_argument("image_id", help="its id or file's name, or a part that only one image has")
    parser.add_argument("--out", type=Path, help="the picture's file (.png); by default in the run's folder show/")
    asked = parser.parse_args()
    recipe, paths = chosen()
    with runs.damage_named(every_output(recipe, paths)):
        image_id = find(asked.image_id, Prepared(paths.prepared, paths.folds).manifest.index.tolist())
        out = asked.out or paths.run / "show" / f"{image_id}.png"
        draw(image_id, recipe, paths, out)
    print(out)


def find(asked: str, image_ids: list[str]) -> str:
    """The image that is meant; UsageError that names the nearest where that is not clear."""
    asked = image_id(asked)
    if asked in image_ids:
        return asked
    holding = [image_id for image_id in image_ids if asked and asked in image_id]
    if len(holding) == 1:
        return holding[0]
    near = holding[:5] or difflib.get_close_matches(asked, image_ids, n=5, cutoff=0.3) or image_ids[:5]
    reason = f"stands in {len(holding)} ids" if holding else "is no image of this run"
    raise UsageError(f"'{asked}' {reason}; nearest: {', '.join(near)}")


def draw(image_id: str, recipe: Recipe, paths: Paths, out: Path) -> None:
    """Write the picture of an image."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    known = gather(image_id, recipe, paths)
    panels = [_original, _crop, _probabilities, *[_map(name) for name in known.maps], _final]
    across = min((4, 3), key=lambda count: -len(panels) % count)  # the fewest gaps
    rows = -(-len(panels) // across)
    figure, axes = pyplot.subplots(rows, across, figsize=(4.1 * across, 4.5 * rows + 0.8), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for panel, axis in zip(panels, axes.flat, strict=False):
        panel(axis, known)
    figure.suptitle(_title(known, recipe, paths), fontsize=11)
    figure.text(0.01, 0.005, _footer(known), fontsize=8, color="#555555")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
    pyplot.close(figure)


def _title(known: Known, recipe: Recipe, paths: Paths) -> str:
    held_out = f", held out in fold {known.fold}" if known.fold is not None else ""
    return f"{known.image_id}\n{paths.dataset}, recipe {recipe.name}; {known.split}{held_out}; truth: {_truth(known)}"


def _truth(known: Known) -> str:
    if known.truth is None:
        return "unknown"
    return f"pneumothorax, {known.truth.mean():.2%} of the frame" if known.truth.any() else "no pneumothorax"


def _footer(known: Known) -> str:
    missing = f"Not there: {', '.join(known.missing)}. " if known.missing else ""
    return f"{missing}Research use only."


def _image(axis, canvas: np.ndarray, title: str) -> None:
    axis.imshow(canvas, cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=10)
    axis.axis("off")


def _outline(axis, mask: np.ndarray | None, colour: str) -> None:
    if mask is not None and mask.any():
        axis.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=LINE)


def _original(axis, known: Known) -> None:
    _image(axis, known.canvas, "original" + (f"; box: {known.box_note}" if known.box else ""))
    _outline(axis, known.truth, TRUTH)
    if known.box:
        from matplotlib.patches import Rectangle

        corner = (known.box.xmin - 0.5, known.box.ymin - 0.5)
        axis.add_patch(
            Rectangle(corner, known.box.width, known.box.height, fill=False, edgecolor=BOX, linewidth=LINE)
        )


def _crop(axis, known: Known) -> None:
    if known.box is None:
        axis.axis("off")
        return
    xmin, ymin, xmax, ymax = whole(known.box, known.canvas.shape[0])
    _image(axis, known.canvas[ymin:ymax, xmin:xmax], f"crop, {xmax - xmin} x {ymax - ymin} of {known.canvas.shape[0]}")


def _probabilities(axis, known: Known) -> None:
    """A bar for each model, the stack below, and the gate that the stack must pass."""
    bars = known.probs | ({} if known.stacked is None else {"stack": known.stacked})
    for place, (name, value) in enumerate(bars.items()):
        axis.barh(place, value, color="#f2848d" if name == "stack" else "#b4c0d0", height=0.8)
        axis.text(0.015, place, name, va="center", fontsize=8)
        axis.text(0.985, place, f"{value:.2f}", va="center", ha="right", fontsize=8)
    if known.gate is not None:
        axis.axvline(known.gate, color="black", linestyle="--", linewidth=1)
    gate = "" if known.gate is None else f" (dashed: the stack's gate, {known.gate:.2f})"
    axis.set(xlim=(0, 1), ylim=(max(len(bars), FEWEST_BARS) - 0.5, -0.5), yticks=[], box_aspect=1)
    axis.set_title(f"probability{gate}", fontsize=10)


def _map(name: str):
    def panel(axis, known: Known) -> None:
        found = resize(known.maps[name], *known.canvas.shape)
        _image(axis, known.canvas, f"{name}, highest {known.maps[name].max() / 255:.2f}")
        axis.imshow(found / 255, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(found / 160, 0, 0.75))
        _outline(axis, known.truth, TRUTH)

    return panel


def _final(axis, known: Known) -> None:
    _image(axis, known.canvas, _verdict(known))
    _outline(axis, known.truth, TRUTH)
    if known.final is not None and known.final.any():
        tint = np.zeros((*known.final.shape, 4))
        tint[known.final] = (1.0, 0.31, 0.37, 0.45)
        axis.imshow(tint)


def _verdict(known: Known) -> str:
    if known.final is None:
        return "no final mask"
    drawn = f"final mask (red) {known.final.mean():.2%}" if known.final.any() else "final mask: empty"
    if known.truth is None:
        return drawn
    total = int(known.final.sum()) + int(known.truth.sum())
    dice = 2 * int((known.final & known.truth).sum()) / total if total else 1.0
    return f"{drawn}; truth (green)\nDice {dice:.2f}"


if __name__ == "__main__":
    run_main(main)
