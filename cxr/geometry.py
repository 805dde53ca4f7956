"""Boxes and the letterbox: how pixels of the original, of the square canvas and of a crop correspond.

A box is (xmin, ymin, xmax, ymax) in pixels, edges between pixels, so that a full frame is
(0, 0, width, height) and an area is a plain product.
"""

from typing import NamedTuple

import cv2
import numpy as np


class Box(NamedTuple):
    """Edges in pixels; xmax and ymax are exclusive."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float

    @property
    def width(self) -> float:
        return self.xmax - self.xmin

    @property
    def height(self) -> float:
        return self.ymax - self.ymin

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    def clipped(self, width: float, height: float) -> "Box":
        """The part inside a frame of `width` by `height`."""
        return Box(max(self.xmin, 0), max(self.ymin, 0), min(self.xmax, width), min(self.ymax, height))

    def grown(self, margin: float) -> "Box":
        """Each side pushed out by `margin` times the box's extent along that axis."""
        dx, dy = margin * self.width, margin * self.height
        return Box(self.xmin - dx, self.ymin - dy, self.xmax + dx, self.ymax + dy)

    def scaled(self, scale: float, dx: float = 0.0, dy: float = 0.0) -> "Box":
        """The box after x -> x * scale + dx, y -> y * scale + dy."""
        return Box(*(v * scale + d for v, d in zip(self, (dx, dy, dx, dy), strict=True)))


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes row by row, [..., 4] against [..., 4] -> [...]."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(np.clip(x[..., 2:] - x[..., :2], 0, None), axis=-1) for x in (a, b)]
    return inner / np.maximum(areas[0] + areas[1] - inner, 1e-9)


class Letterbox(NamedTuple):
    """An image of `height` x `width` centred on a square canvas: canvas = original * scale + (dx, dy)."""

    height: int
    width: int
    size: int

    @property
    def scale(self) -> float:
        return self.size / max(self.height, self.width)

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the image on the canvas."""
        return max(round(self.height * self.scale), 1), max(round(self.width * self.scale), 1)

    @property
    def offset(self) -> tuple[int, int]:
        """dx, dy of the image's corner on the canvas."""
        height, width = self.inner
        return (self.size - width) // 2, (self.size - height) // 2

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Original [height, width] -> canvas [size, size], zero outside the image; area-averaged when shrunk."""
        (height, width), (dx, dy) = self.inner, self.offset
        canvas = np.zeros((self.size, self.size), image.dtype)
        canvas[dy : dy + height, dx : dx + width] = resize(image, height, width)
        return canvas

    def restore(self, canvas: np.ndarray) -> np.ndarray:
        """Canvas [size, size] -> original [height, width]."""
        (height, width), (dx, dy) = self.inner, self.offset
        return resize(canvas[dy : dy + height, dx : dx + width], self.height, self.width)

    def to_canvas(self, box: Box) -> Box:
        """A box of the original on the canvas."""
        return box.scaled(self.scale, *self.offset)

    def to_original(self, box: Box) -> Box:
        """A box of the canvas in the original."""
        dx, dy = self.offset
        return Box(*((v - d) / self.scale for v, d in zip(box, (dx, dy, dx, dy), strict=True)))


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [h, w] or [h, w, c]: area average when shrinking, bilinear when growing."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def whole(box: Box, size: int) -> tuple[int, int, int, int]:
    """The box on whole pixels inside a canvas of `size`, at least one pixel wide: xmin, ymin, xmax, ymax."""
    xmin, ymin = (int(np.clip(np.floor(v), 0, size - 1)) for v in (box.xmin, box.ymin))
    xmax, ymax = (int(np.clip(np.ceil(v), 1, size)) for v in (box.xmax, box.ymax))
    return xmin, ymin, max(xmax, xmin + 1), max(ymax, ymin + 1)


def crop(canvas: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The box's part of a canvas, stretched to [size, size]."""
    xmin, ymin, xmax, ymax = whole(box, canvas.shape[0])
    return resize(canvas[ymin:ymax, xmin:xmax], size, size)


def uncrop(patch: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Paste a crop's map back onto a canvas [size, size], zero outside the box; the inverse of `crop`."""
    xmin, ymin, xmax, ymax = whole(box, size)
    canvas = np.zeros((size, size), patch.dtype)
    canvas[ymin:ymax, xmin:xmax] = resize(patch, ymax - ymin, xmax - xmin)
    return canvas
