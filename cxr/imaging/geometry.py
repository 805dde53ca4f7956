"""Boxes and the letterbox: how pixels of the original, of the square canvas and of a crop correspond.

A box is (xmin, ymin, xmax, ymax) in pixels, edges between pixels, so that a full frame is
(0, 0, width, height) and an area is a plain product.
"""

from typing import NamedTuple

import cv2
import numpy as np

ROUNDING = 1e-6  # pixels: an edge that was scaled to and fro misses its whole number by less


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

    def clip_to_frame(self, width: float, height: float) -> "Box":
        """The part inside a frame of `width` by `height`."""
        return Box(max(self.xmin, 0), max(self.ymin, 0), min(self.xmax, width), min(self.ymax, height))

    def grow_by_margin(self, margin: float) -> "Box":
        """Each side pushed out by `margin` times the box's extent along that axis."""
        dx, dy = margin * self.width, margin * self.height
        return Box(self.xmin - dx, self.ymin - dy, self.xmax + dx, self.ymax + dy)

    def scale_and_shift(self, scale: float, dx: float = 0.0, dy: float = 0.0) -> "Box":
        """The box after x -> x * scale + dx, y -> y * scale + dy."""
        return Box(*(edge * scale + shift for edge, shift in zip(self, (dx, dy, dx, dy), strict=True)))


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes row by row, [..., 4] against [..., 4] -> [...]."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    intersection = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(np.clip(x[..., 2:] - x[..., :2], 0, None), axis=-1) for x in (a, b)]
    return intersection / np.maximum(areas[0] + areas[1] - intersection, 1e-9)


class Letterbox(NamedTuple):
    """An image of `height` x `width` centred on a square canvas of `size`, on whole pixels of it.

    Each axis is therefore scaled by a factor of its own, which differs from `scale` by up to half a pixel of canvas.
    """

    height: int
    width: int
    size: int

    @property
    def scale(self) -> float:
        """Of the longer side; of the other one up to the rounding."""
        return self.size / max(self.height, self.width)

    @property
    def content_size(self) -> tuple[int, int]:
        """Height and width of the image on the canvas."""
        return max(round(self.height * self.scale), 1), max(round(self.width * self.scale), 1)

    @property
    def content_offset(self) -> tuple[int, int]:
        """dx, dy of the image's corner on the canvas."""
        height, width = self.content_size
        return (self.size - width) // 2, (self.size - height) // 2

    def content_box(self, side: int) -> Box:
        """The image's edges on this canvas brought to another side: not on whole pixels, as a rule."""
        (height, width), (dx, dy) = self.content_size, self.content_offset
        return Box(dx, dy, dx + width, dy + height).scale_and_shift(side / self.size)

    def image_to_canvas(self, image: np.ndarray) -> np.ndarray:
        """Original [height, width] -> canvas [size, size], zero outside the image; area-averaged when shrunk."""
        (height, width), (dx, dy) = self.content_size, self.content_offset
        canvas = np.zeros((self.size, self.size), image.dtype)
        canvas[dy : dy + height, dx : dx + width] = resize_image(image, height, width)
        return canvas

    def image_to_original(self, canvas: np.ndarray) -> np.ndarray:
        """Canvas, or a map of all of it, [s, s] of any side -> original [height, width]."""
        return _stretch_part(canvas, self.content_box(len(canvas)), self.height, self.width)

    def box_to_canvas(self, box: Box) -> Box:
        """A box of the original on the canvas."""
        (sx, sy), (dx, dy) = self._axis_scales, self.content_offset
        return Box(box.xmin * sx + dx, box.ymin * sy + dy, box.xmax * sx + dx, box.ymax * sy + dy)

    def box_to_original(self, box: Box) -> Box:
        """A box of the canvas in the original."""
        (sx, sy), (dx, dy) = self._axis_scales, self.content_offset
        return Box((box.xmin - dx) / sx, (box.ymin - dy) / sy, (box.xmax - dx) / sx, (box.ymax - dy) / sy)

    @property
    def _axis_scales(self) -> tuple[float, float]:
        """Pixels of canvas for a pixel of the original, along x and y."""
        height, width = self.content_size
        return width / self.width, height / self.height


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [h, w] or [h, w, c]: area average along a side that shrinks, bilinear along one that grows.

    In two steps where one shrinks and the other grows: OpenCV would sample a few lines and leave out others.
    """
    shrunk_shape = min(height, image.shape[0]), min(width, image.shape[1])
    if shrunk_shape != image.shape[:2]:
        image = cv2.resize(image, shrunk_shape[::-1], interpolation=cv2.INTER_AREA)
    if shrunk_shape != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def _stretch_part(image: np.ndarray, part: Box, height: int, width: int) -> np.ndarray:
    """A part of an image, its edges anywhere, stretched to [height, width].

    Pixels whose centres lie outside the part are not looked at; those at its border are repeated outwards.
    """
    xmin, ymin, xmax, ymax = (int(np.floor(edge + 0.5)) for edge in part)
    xmax, ymax = max(xmax, xmin + 1), max(ymax, ymin + 1)
    part_pixels, sx, sy = image[ymin:ymax, xmin:xmax], width / part.width, height / part.height
    if (xmin, ymin, xmax, ymax) == part:
        return resize_image(part_pixels, height, width)
    rows, columns = (max(round(n * min(k, 1)), 1) for n, k in zip(part_pixels.shape, (sy, sx), strict=True))
    averaged = resize_image(part_pixels, rows, columns)
    kx, ky = sx * part_pixels.shape[1] / columns, sy * part_pixels.shape[0] / rows
    dx, dy = (xmin - part.xmin) * sx, (ymin - part.ymin) * sy
    # OpenCV counts from pixel centres, boxes from pixel edges: half a pixel apart.
    matrix = np.array([[kx, 0, dx + (kx - 1) / 2], [0, ky, dy + (ky - 1) / 2]])
    return cv2.warpAffine(averaged, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def snap_to_pixels(box: Box, size: int) -> tuple[int, int, int, int]:
    """The box on whole pixels inside a canvas of `size`, at least one pixel wide: xmin, ymin, xmax, ymax."""
    xmin, ymin = (int(np.clip(np.floor(edge + ROUNDING), 0, size - 1)) for edge in (box.xmin, box.ymin))
    xmax, ymax = (int(np.clip(np.ceil(edge - ROUNDING), 1, size)) for edge in (box.xmax, box.ymax))
    return xmin, ymin, max(xmax, xmin + 1), max(ymax, ymin + 1)


def crop_image(canvas: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The box's part of a canvas, on whole pixels, stretched to [size, size]."""
    xmin, ymin, xmax, ymax = snap_to_pixels(box, canvas.shape[0])
    return resize_image(canvas[ymin:ymax, xmin:xmax], size, size)


def crop_mask(mask: np.ndarray, box: Box, size: int) -> np.ndarray:
    """`crop_image` of a mask, uint8 [size, size] of 0 or 1; one pixel stays of what would vanish by shrinking."""
    cropped_mask = (crop_image(mask * np.uint8(255), box, size) > 127).astype(np.uint8)
    if not cropped_mask.any() and mask.any():
        share = crop_image(mask.astype(np.float32), box, size)
        cropped_mask.ravel()[share.argmax()] = share.any()
    return cropped_mask


def paste_crop(patch: np.ndarray, box: Box, size: int, canvas_size: int | None = None) -> np.ndarray:
    """Lay a crop's map on the full frame [size, size], zero outside the crop; the inverse of `crop_image`.

    patch: the map of the crop, [h, w], float or uint8.
    box: the box that was given to `crop_image`, in pixels of a canvas of side `canvas_size`.
    size: side of the frame in pixels.
    canvas_size: side of the canvas in pixels; None: the frame's own.

    The cropped pixels need not end at pixel edges of the frame: each frame pixel gets the mean of what covers it,
    at the border weighted by the share that is covered.
    """
    part = Box(*snap_to_pixels(box, canvas_size or size)).scale_and_shift(size / (canvas_size or size))
    xmin, ymin, xmax, ymax = snap_to_pixels(part, size)
    frame, (height, width) = np.zeros((size, size), patch.dtype), (ymax - ymin, xmax - xmin)
    if (xmin, ymin, xmax, ymax) == part:
        frame[ymin:ymax, xmin:xmax] = resize_image(patch, height, width)
        return frame
    enlarged_patch = resize_image(patch, max(height, patch.shape[0]), max(width, patch.shape[1])).astype(np.float32)
    rows = _measure_coverage(part.ymin - ymin, part.ymax - ymin, enlarged_patch.shape[0], height)
    columns = _measure_coverage(part.xmin - xmin, part.xmax - xmin, enlarged_patch.shape[1], width)
    pasted_patch = rows @ enlarged_patch @ columns.T
    frame[ymin:ymax, xmin:xmax] = np.rint(pasted_patch) if np.issubdtype(patch.dtype, np.integer) else pasted_patch
    return frame


def _measure_coverage(low: float, high: float, count: int, pixels: int) -> np.ndarray:
    """The share of each pixel that each of `count` equal cells from low to high covers, float32 [pixels, count]."""
    edges, pixel_edges = np.linspace(low, high, count + 1), np.arange(pixels)[:, None]
    shares = np.minimum(edges[1:], pixel_edges + 1) - np.maximum(edges[:-1], pixel_edges)
    return np.clip(shares, 0, None).astype(np.float32)
