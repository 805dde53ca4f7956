"""One picture of the boxes: first the images to look at, then the hand boxes with the lowest IoU."""

from pathlib import Path

import cv2
import numpy as np

from cxr.datasets.prepared import Prepared
from cxr.files import write_atomically
from cxr.imaging.geometry import Box, box_iou, resize_image
from stage0_bbox.box_edits import EDITED, BoxRow
from stage0_bbox.choose_boxes import FALLBACK, ChestBox

TILE_SIDE, COLUMNS, ODD_COUNT, WORST_COUNT = 240, 6, 24, 12
ODD_TITLE = "To look at first: fallbacks, low scores, odd size or place"
WORST_TITLE = "Hand boxes with the lowest IoU, by a model that did not see them"
GREEN, RED, ORANGE, BLUE = (80, 220, 80), (60, 60, 255), (0, 165, 255), (255, 200, 60)
COLOURS = {"model": RED, FALLBACK: ORANGE, EDITED: BLUE}


def write_overview(
    prepared: Prepared,
    chest_boxes: dict[str, ChestBox],
    hand_boxes: dict[str, Box],
    edits: dict[str, BoxRow],
    path: Path,
) -> None:
    """Write the picture (JPEG): hand boxes green, detected ones red, fallbacks orange, edited ones blue.

    prepared: where the images are read from
    chest_boxes: of every image, by image_id
    hand_boxes: in the original's pixels, by image_id
    edits: the user's rows, by image_id, drawn in place of the detected boxes
    path: the JPEG
    """
    boxes = chest_boxes | {
        key: chest_boxes[key]._replace(box=row.box, source=EDITED) for key, row in edits.items() if key in chest_boxes
    }
    ious = {key: float(box_iou(np.array(boxes[key].box), np.array(hand_boxes[key]))) for key in hand_boxes}
    ids_by_title = {ODD_TITLE: rank_by_oddity(prepared, boxes)[:ODD_COUNT]}
    ids_by_title[WORST_TITLE] = sorted(ious, key=ious.get)[:WORST_COUNT]
    strips = [_render_legend()]
    for title, keys in ids_by_title.items():
        if keys:
            tiles = [_render_tile(prepared, key, boxes[key], hand_boxes.get(key), ious) for key in keys]
            strips += [_render_heading(title), *_arrange_in_rows(tiles)]
    with write_atomically(path) as temporary:
        temporary.write_bytes(cv2.imencode(".jpg", np.concatenate(strips), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def rank_by_oddity(prepared: Prepared, chest_boxes: dict[str, ChestBox]) -> list[str]:
    """Image ids, oddest first: fallbacks, then by the largest robust deviation of score, size or place."""
    keys = sorted(chest_boxes)
    sizes = prepared.manifest.loc[keys, ["width", "height", "width", "height"]].to_numpy(float)
    edges = np.array([chest_boxes[key].box for key in keys]) / sizes
    scores = np.array([chest_boxes[key].score for key in keys])
    values = np.column_stack([edges, edges[:, 2:] - edges[:, :2]])
    box_deviation = np.abs(_robust_deviations(values)).max(axis=1)
    score_deviation = np.clip(-_robust_deviations(scores[:, None], min_spread=0.02)[:, 0], 0, None)
    is_fallback = np.array([chest_boxes[key].source == FALLBACK for key in keys])
    oddity = np.maximum(box_deviation, score_deviation) + 1e6 * is_fallback
    return [keys[row] for row in np.argsort(-oddity, kind="stable")]


def _robust_deviations(values: np.ndarray, min_spread: float = 0.01) -> np.ndarray:
    """Distances from the median in units of sigma, by 1.4826 times the median absolute deviation (Hampel 1974)."""
    distances = values - np.median(values, axis=0)
    return distances / np.maximum(1.4826 * np.median(np.abs(distances), axis=0), min_spread)


def _render_tile(
    prepared: Prepared, key: str, chest_box: ChestBox, hand_box: Box | None, ious: dict[str, float]
) -> np.ndarray:
    tile = cv2.cvtColor(resize_image(prepared.read_image(key), TILE_SIDE, TILE_SIDE), cv2.COLOR_GRAY2BGR)
    for box, colour in ((hand_box, GREEN), (chest_box.box, COLOURS[chest_box.source])):
        if box:
            canvas_box = prepared.get_letterbox(key).box_to_canvas(box)
            _draw_rectangle(tile, canvas_box.scale_and_shift(TILE_SIDE / prepared.size), colour)
    _draw_text(tile, key[-26:], (4, 12), 0.32)
    text = f"{chest_box.source} {chest_box.score:.2f}" + (f"  IoU {ious[key]:.2f}" if key in ious else "")
    _draw_text(tile, text, (4, TILE_SIDE - 6), 0.38, COLOURS[chest_box.source])
    return tile


def _draw_rectangle(tile: np.ndarray, box: Box, colour: tuple[int, int, int]) -> None:
    xmin, ymin, xmax, ymax = (int(np.clip(round(edge), 0, TILE_SIDE)) for edge in box)
    cv2.rectangle(tile, (xmin, ymin), (xmax - 1, ymax - 1), colour, 1, cv2.LINE_AA)


def _draw_text(picture: np.ndarray, text: str, origin: tuple[int, int], scale: float, colour=(255, 255, 255)) -> None:
    x, y = origin  # the shadow is drawn one pixel off, not thicker: OpenCV 5 spaces letters by their thickness
    for position, shade in (((x + 1, y + 1), (0, 0, 0)), (origin, colour)):
        cv2.putText(picture, text, position, cv2.FONT_HERSHEY_SIMPLEX, scale, shade, 1, cv2.LINE_AA)


def _arrange_in_rows(tiles: list[np.ndarray]) -> list[np.ndarray]:
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    return [np.concatenate(tiles[start : start + COLUMNS], axis=1) for start in range(0, len(tiles), COLUMNS)]


def _render_heading(text: str) -> np.ndarray:
    strip = np.full((28, TILE_SIDE * COLUMNS, 3), 30, np.uint8)
    _draw_text(strip, text, (8, 19), 0.5)
    return strip


def _render_legend() -> np.ndarray:
    strip, x = np.full((28, TILE_SIDE * COLUMNS, 3), 30, np.uint8), 8
    for text, colour in (("hand", GREEN), ("detected", RED), ("fallback: mean box", ORANGE), ("edited", BLUE)):
        _draw_text(strip, text, (x, 19), 0.5, colour)
        x += 24 + cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    _draw_text(strip, "without the margin; the number is the detector's score", (x + 12, 19), 0.45)
    return strip
