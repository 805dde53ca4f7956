"""A contact sheet: eight phantoms, two with the mask drawn.

python -m phantom.sheet OUT.jpg
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from cxr.errors import UsageError, run_main
from cxr.files import write_atomically
from phantom.render import Phantom, render_phantom

SEED, TILE, COLUMNS = 2020, 384, 4
RED = (0, 0, 255)  # blue, green, red
SHEET_PHANTOMS = (  # patient, with or without air; chosen by eye for their variety
    (11, True), (2, False), (9, True), (10, False), (7, True), (6, False), (11, False), (17, False),
)  # fmt: skip


def draw_tile(phantom: Phantom, with_outline: bool) -> np.ndarray:
    """One picture of the sheet: uint8 [TILE, TILE, 3]."""
    picture = cv2.cvtColor(phantom.image, cv2.COLOR_GRAY2BGR)
    if with_outline:
        outlines, _ = cv2.findContours(phantom.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, RED, 4, cv2.LINE_AA)
    return cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA)


def draw_sheet() -> np.ndarray:
    """Four by two phantoms; the first and the third with their masks."""
    phantoms = [render_phantom(SEED, patient, 0, 1024, positive) for patient, positive in SHEET_PHANTOMS]
    tiles = [draw_tile(phantom, with_outline=k in (0, 2)) for k, phantom in enumerate(phantoms)]
    return np.vstack([np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)])


def main() -> None:
    if len(sys.argv) != 2:
        raise UsageError(__doc__)
    path = Path(sys.argv[1])
    with write_atomically(path) as temporary:
        temporary.write_bytes(cv2.imencode(".jpg", draw_sheet(), [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())


if __name__ == "__main__":
    run_main(main)
