"""Points, outlines and drawing in the patient's frame: cm, x to the image's right, y down from the lung apices.

The curves are Catmull-Rom splines (E. Catmull and R. Rom, A class of local interpolating splines, 1974).
"""

from dataclasses import dataclass

import cv2
import numpy as np

SUBPIXEL = 4  # fractional bits that OpenCV's drawing takes


@dataclass(frozen=True)
class Projection:
    """From the patient's frame (cm, depth towards the back) to pixels of an image of size x size."""

    size: int
    scale: float  # pixels per cm
    origin: tuple[float, float]  # where the point (0, 0) falls, pixels
    tilt: float  # in the image plane, radians
    turn: float  # about the patient's long axis, radians

    def __call__(self, points, depth: float = 0.0) -> np.ndarray:
        """Points [..., 2] in cm, at a depth in cm, as pixels: float32 [..., 2]."""
        points = np.asarray(points, np.float32)
        x, y = points[..., 0] + self.turn * depth, points[..., 1]
        cos, sin = np.cos(self.tilt) * self.scale, np.sin(self.tilt) * self.scale
        return np.stack([self.origin[0] + cos * x - sin * y, self.origin[1] + sin * x + cos * y], -1).astype(np.float32)

    def with_size(self, size: int) -> "Projection":
        """The same view on a grid of another size."""
        ratio = size / self.size
        return Projection(
            size, self.scale * ratio, (self.origin[0] * ratio, self.origin[1] * ratio), self.tilt, self.turn
        )

    def compute_patient_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """The patient's x and y (cm) at every pixel: two float32 arrays [size, size]."""
        u = np.arange(self.size, dtype=np.float32)[None] + 0.5 - self.origin[0]
        v = np.arange(self.size, dtype=np.float32)[:, None] + 0.5 - self.origin[1]
        cos, sin = np.float32(np.cos(self.tilt) / self.scale), np.float32(np.sin(self.tilt) / self.scale)
        return cos * u + sin * v, cos * v - sin * u


def smooth_outline(corners: np.ndarray, per_corner: int = 12) -> np.ndarray:
    """A closed Catmull-Rom curve through the corners [n, 2]: points [n * per_corner, 2]."""
    t = np.linspace(0, 1, per_corner, endpoint=False)[None, :, None]
    a, b, c, d = (np.roll(corners, k, axis=0)[:, None] for k in (1, 0, -1, -2))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, 2)


def smooth_path(corners, n: int = 24) -> np.ndarray:
    """An open Catmull-Rom curve through the corners: points [about n, 2]."""
    corners = np.asarray(corners, np.float64)
    extended_corners = np.concatenate([2 * corners[:1] - corners[1:2], corners, 2 * corners[-1:] - corners[-2:-1]])
    points_per_corner = max(2, n // (len(corners) - 1))
    curve = smooth_outline(extended_corners, points_per_corner)[points_per_corner : -2 * points_per_corner]
    return np.concatenate([curve, corners[-1:]])


def compute_ribbon_edges(path: np.ndarray, width) -> tuple[np.ndarray, np.ndarray]:
    """The two edges, each [n, 2], of a band about a path [n, 2]; `width` is one number or [n]."""
    tangent = np.gradient(path, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], -1) / (np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-6)
    half_width = np.broadcast_to(np.asarray(width, np.float64) / 2, len(path))[:, None]
    return path + normal * half_width, path - normal * half_width


def sample_unit_circle(n: int) -> np.ndarray:
    """Points [n, 2] on the unit circle."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def compute_polygon_area(outline: np.ndarray) -> float:
    """The area that a closed outline [n, 2] encloses, by the shoelace formula."""
    x, y = outline[:, 0], outline[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def to_fixed_point(points: np.ndarray) -> np.ndarray:
    """Pixels in OpenCV's fixed-point form; its pixel centres lie at whole numbers, ours at halves."""
    return np.round((points - 0.5) * (1 << SUBPIXEL)).astype(np.int32)


def create_layer(size: int) -> np.ndarray:
    """An empty drawing layer: uint8 [size, size]."""
    return np.zeros((size, size), np.uint8)


def fill_outline(layer: np.ndarray, outline: np.ndarray, value: int = 255) -> None:
    """Fill an outline [n, 2] in pixels with a value of 0..255, with smooth edges."""
    cv2.fillPoly(layer, [to_fixed_point(outline)], int(value), cv2.LINE_AA, SUBPIXEL)


def stroke_paths(layer: np.ndarray, paths, width: float, value: float = 255) -> None:
    """Draw lines into a layer; a line thinner than a pixel is drawn fainter instead.

    layer: uint8 [size, size], changed in place
    paths: a list of arrays [n, 2], or one array [paths, n, 2], in pixels
    width: of the line in pixels
    value: gray, 0..255
    """
    value *= min(1.0, max(width, 0.0))
    paths = list(to_fixed_point(paths)) if isinstance(paths, np.ndarray) else [to_fixed_point(path) for path in paths]
    cv2.polylines(layer, paths, False, round(value), max(1, round(width)), cv2.LINE_AA, SUBPIXEL)


def blur_layer(layer: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; below a third of a pixel there is nothing to blur."""
    return layer if sigma < 0.33 else cv2.GaussianBlur(layer, (0, 0), sigma)


def blur_to_float(layer: np.ndarray, sigma: float) -> np.ndarray:
    """A drawn layer after a Gaussian blur of `sigma` pixels: float32 [size, size], 0..255."""
    return blur_layer(layer, sigma).astype(np.float32)


def upsample_map(image: np.ndarray, size: int) -> np.ndarray:
    """A smooth map [n, n] on a finer grid: [size, size]."""
    return image if len(image) == size else cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
