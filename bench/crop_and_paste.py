"""How much Dice a perfect segmenter loses on the way from the original to a crop and back, by the lesion's width.

python -m bench.crop_and_paste [--images 12]

A crescent along a chest wall, 6 to 60 pixels of 1024 wide, is drawn in the original. Letterbox.image_to_canvas brings
it to the canvas, SegmenterData.load_inference_image crops and scales it. The perfect segmenter returns this crop as
its map: the share of each pixel that is lesion. SegmenterData.paste_into_frame pastes the map, stage 3 restores it to
the original's pixels, and where it is above .5 it is compared with the drawing. Printed: mean Dice by width.
'shares' gives the segmenter the exact share of each canvas pixel; 'bits' gives it one bit for each, as the prepared
masks have, so that the loss by these bits is included. Original, canvas and map differ in size, except that the first
original is as large as its canvas.
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

    width: in pixels of an original of 1024. The box has a margin of 0 to 3 %, as one drawn by hand.
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
    """One image, prepared in memory, whose gray value says how much of a pixel is lesion.

    grids: sizes of original, canvas and map
    mask: the lesion, bool [height, width] of the original
    box: of the chest, in the original's pixels
    as_bits: each pixel of the canvas is all lesion or none, as in a prepared mask
    """
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
    """Dice (0..1) between the mask and a perfect segmenter's map of it, pasted and restored.

    grids, mask, box, as_bits: see `build_segmenter_data`
    """
    data = build_segmenter_data(grids, mask, box, as_bits)
    prob_map = data.load_inference_image("one")["image"][0]
    pasted_map = data.paste_into_frame("one", prob_map)
    return dice_of_masks(mask, restore_map(pasted_map, data.prepared.get_letterbox("one")) > 127)


def main(images: int = 12) -> None:
    """Print two lines for each set of grids: width:Dice, by shares and by bits."""
    cv2.setNumThreads(0)
    for grids in GRIDS:
        crescents = {
            width: [draw_crescent(grids, width, np.random.default_rng(k)) for k in range(images)] for width in WIDTHS
        }
        for as_bits in (False, True):
            dices = {
                width: np.mean([measure_round_trip(grids, *mask_and_box, as_bits) for mask_and_box in pairs])
                for width, pairs in crescents.items()
            }
            title = f"original {grids.height} x {grids.width}, canvas {grids.canvas}, map {grids.map}"
            figures = " ".join(f"{width}:{dice:.4f}" for width, dice in dices.items())
            print(f"{title}, {'bits' if as_bits else 'shares'}: {figures}", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
