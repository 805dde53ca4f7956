"""What is lost between a crop and the original: perfect masks, cropped, pasted back and restored; Dice by width.

python -m bench.crop_and_paste [--images 12]

A crescent along a chest wall, 6 to 60 pixels of 1024 wide, is drawn in the original. Letterbox.image_to_canvas
brings it to the canvas. A perfect segmenter answers what SegmenterData.load_inference_image shows it of that: how much
of each pixel is lesion. SegmenterData.paste_into_frame pastes the answer, stage 3 restores it, and what is above .5 is
compared with the drawing.
'bits': the same of the prepared mask, which has one bit a pixel of canvas, so that what is lost to that is in it, too.
Original, canvas and map are of different sizes, but for the first, whose original is as large as its canvas.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import tyro

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box, Letterbox
from cxr.training.cropping import View
from evaluation.metrics import dice_of_masks
from stage2_segment import config
from stage2_segment.data import SegmenterData
from stage3_stack.postprocessing.components import restore_map

WIDTHS = (6, 8, 10, 14, 20, 30, 45, 60)


class Grids(NamedTuple):
    """Height and width of the original, side of the canvas, side of the map."""

    height: int
    width: int
    canvas: int
    map: int


GRIDS = (
    Grids(1024, 1024, 1024, 512), Grids(2500, 2048, 1024, 512), Grids(2021, 2477, 768, 512),
    Grids(2022, 1736, 1024, 480),
)  # fmt: skip


def draw_crescent(grids: Grids, width: float, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
    """A band of even width along a part of an ellipse, bool [height, width] of the original, and the ellipse's box.

    width: of 1024 pixels of the original's longer side. The box is drawn with the margin of a hand.
    """
    height, image_width = grids.height, grids.width
    x, y = rng.uniform(0.42, 0.58, 2) * (image_width, height)
    a, b = rng.uniform(0.2, 0.35, 2) * (image_width, height)
    start_angle, arc_angle = rng.uniform(0, 2 * np.pi), rng.uniform(1, 2)
    rows, columns = np.ogrid[0.5:height, 0.5:image_width]
    radius = np.hypot((columns - x) / a, (rows - y) / b)
    slope = np.hypot((columns - x) / a**2, (rows - y) / b**2)  # |gradient| of radius is slope / radius
    depth = (1 - radius) * radius / slope  # pixels inside the ellipse, to first order
    angle = (np.arctan2((rows - y) / b, (columns - x) / a) - start_angle) % (2 * np.pi)
    margins = rng.uniform(0, 0.03, 4) * max(grids[:2])
    box = Box(*(np.array([x - a, y - b, x + a, y + b]) + margins * (-1, -1, 1, 1))).clip_to_frame(image_width, height)
    return (depth > 0) & (depth < width / 1024 * max(grids[:2])) & (angle < arc_angle), box


def build_segmenter_data(grids: Grids, mask: np.ndarray, box: Box, as_bits: bool) -> SegmenterData:
    """One image whose gray value is the share of lesion or, as the prepared mask has it, the nearest bit."""
    canvas = Letterbox(*grids[:3]).image_to_canvas(mask * np.uint8(255))
    prepared = Prepared(Path("in memory"))
    vars(prepared).update(
        pixels=np.where(canvas > 127, 255, 0).astype(np.uint8)[None] if as_bits else canvas[None],
        manifest=pd.DataFrame({"height": grids.height, "width": grids.width}, index=["one"]),
        index=pd.DataFrame({"row": 0, "mask_row": -1}, index=["one"]),
    )
    member = config.read_member("smoke").model_copy(update={"view": View(size=grids.map, crop="box")})
    return SegmenterData(prepared, {"one": box}, member, ["one"], 0)


def measure_round_trip(grids: Grids, mask: np.ndarray, box: Box, as_bits: bool) -> float:
    """Dice of a perfect answer, pasted and restored, with the mask that was drawn."""
    data = build_segmenter_data(grids, mask, box, as_bits)
    prob_map = data.load_inference_image("one")["image"][0]
    return dice_of_masks(
        mask, restore_map(data.paste_into_frame("one", prob_map), data.prepared.get_letterbox("one")) > 127
    )


def main(images: int = 12) -> None:
    """Prints two lines for each set of grids."""
    cv2.setNumThreads(0)
    for grids in GRIDS:
        crescents = {
            width: [draw_crescent(grids, width, np.random.default_rng(k)) for k in range(images)] for width in WIDTHS
        }
        for as_bits in (False, True):
            dices = {
                w: np.mean([measure_round_trip(grids, *mask_and_box, as_bits) for mask_and_box in pairs])
                for w, pairs in crescents.items()
            }
            print(f"original {grids.height} x {grids.width}, canvas {grids.canvas}, map {grids.map}, "
                  f"{'bits' if as_bits else 'shares'}: " + " ".join(f"{w}:{value:.4f}" for w, value in dices.items()),
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
