"""One picture of the boxes: the images to look at first on top, then the hand boxes that were met worst."""

from pathlib import Path

import cv2
import numpy as np

from cxr.files import replacing
from cxr.geometry import Box, iou, resize
from cxr.prepared import Prepared
from stage0_bbox.choose import FALLBACK, Found
from stage0_bbox.edits import EDITED, Row

TILE, COLUMNS, ODD, WORST = 240, 6, 24, 12
GREEN, RED, ORANGE, BLUE = (80, 220, 80), (60, 60, 255), (0, 165, 255), (255, 200, 60)
COLOURS = {"model": RED, FALLBACK: ORANGE, EDITED: BLUE}


def draw(prepared: Prepared, found: dict[str, Found], hand: dict[str, Box], edits: dict[str, Row], path: Path) -> None:
    """Write the picture (JPEG): hand boxes green, found ones red, fallbacks orange, edited ones blue."""
    shown = found | {key: found[key]._replace(box=row.box, source=EDITED) for key, row in edits.items() if key in found}
    first = by_oddity(prepared, shown)[:ODD]
    overlap = {key: float(iou(np.array(shown[key].box), np.array(hand[key]))) for key in hand}
    worst = sorted(overlap, key=overlap.get)[:WORST]
    tiles = {
        "To look at first: fallbacks, low scores, odd size or place": first,
        "Hand boxes met worst by a model that did not see them": worst,
    }
    parts = [_legend()]
    for title, keys in tiles.items():
        if keys:
            drawn = [_tile(prepared, key, shown[key], hand.get(key), overlap) for key in keys]
            parts += [_heading(title), *_rows(drawn)]
    with replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(".jpg", np.concatenate(parts), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def by_oddity(prepared: Prepared, found: dict[str, Found]) -> list[str]:
    """Image ids, oddest first: fallbacks, then by the largest robust deviation of score, size or place."""
    keys = sorted(found)
    sizes = prepared.manifest.loc[keys, ["width", "height", "width", "height"]].to_numpy(float)
    edges = np.array([found[key].box for key in keys]) / sizes
    scores = np.array([found[key].score for key in keys])
    values = np.column_stack([edges, edges[:, 2:] - edges[:, :2]])
    deviation = np.abs(_deviations(values)).max(axis=1)
    doubt = np.clip(-_deviations(scores[:, None], least=0.02)[:, 0], 0, None)
    rank = np.maximum(deviation, doubt) + 1e6 * np.array([found[key].source == FALLBACK for key in keys])
    return [keys[row] for row in np.argsort(-rank, kind="stable")]


def _deviations(values: np.ndarray, least: float = 0.01) -> np.ndarray:
    """Distances from the median in units of the spread (median deviation; 1.48 makes it a Gaussian's sigma)."""
    away = values - np.median(values, axis=0)
    return away / np.maximum(1.4826 * np.median(np.abs(away), axis=0), least)


def _tile(prepared: Prepared, key: str, found: Found, hand: Box | None, overlap: dict[str, float]) -> np.ndarray:
    tile = cv2.cvtColor(resize(prepared.image(key), TILE, TILE), cv2.COLOR_GRAY2BGR)
    for box, colour in ((hand, GREEN), (found.box, COLOURS[found.source])):
        if box:
            _rectangle(tile, prepared.letterbox(key).to_canvas(box).scaled(TILE / prepared.size), colour)
    _text(tile, key[-26:], (4, 12), 0.32)
    text = f"{found.source} {found.score:.2f}" + (f"  IoU {overlap[key]:.2f}" if key in overlap else "")
    _text(tile, text, (4, TILE - 6), 0.38, COLOURS[found.source])
    return tile


def _rectangle(tile: np.ndarray, box: Box, colour: tuple[int, int, int]) -> None:
    xmin, ymin, xmax, ymax = (int(np.clip(round(edge), 0, TILE)) for edge in box)
    cv2.rectangle(tile, (xmin, ymin), (xmax - 1, ymax - 1), colour, 1, cv2.LINE_AA)


def _text(picture: np.ndarray, text: str, at: tuple[int, int], scale: float, colour=(255, 255, 255)) -> None:
    x, y = at  # a thicker stroke as the shadow would be wider: OpenCV 5 spaces letters by their weight
    for place, shade in (((x + 1, y + 1), (0, 0, 0)), (at, colour)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, shade, 1, cv2.LINE_AA)


def _rows(tiles: list[np.ndarray]) -> list[np.ndarray]:
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    return [np.concatenate(tiles[start : start + COLUMNS], axis=1) for start in range(0, len(tiles), COLUMNS)]


def _heading(text: str) -> np.ndarray:
    line = np.full((28, TILE * COLUMNS, 3), 30, np.uint8)
    _text(line, text, (8, 19), 0.5)
    return line


def _legend() -> np.ndarray:
    line, x = np.full((28, TILE * COLUMNS, 3), 30, np.uint8), 8
    for text, colour in (("hand", GREEN), ("found", RED), ("fallback: mean box", ORANGE), ("edited", BLUE)):
        _text(line, text, (x, 19), 0.5, colour)
        x += 24 + cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    _text(line, "without the margin; the number is the detector's score", (x + 12, 19), 0.45)
    return line
