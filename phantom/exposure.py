"""From attenuation to a stored picture: scatter, detector, quantum noise, display curve, borders and markers.

Numbers without a source are chosen by eye. The noise of the logarithm of a Poisson count falls with the root of the
count, so it grows as exp(signal / 2).
"""

import cv2
import numpy as np

from phantom.anatomy import Pose
from phantom.geometry import upsample_map

BEDSIDE_LABELS = ("PORTABLE", "AP", "AP SUPINE", "ERECT", "SUPINE")


def compute_detector_signal(
    rng: np.random.Generator, attenuation: np.ndarray, is_bedside: bool, noise: float
) -> np.ndarray:
    """The detector's logarithmic signal with scatter and quantum noise: float32 [size, size], 0 in open air.

    rng: the generator of the image's exposure
    attenuation: line integrals without a unit, float32 [size, size], 0 upwards
    is_bedside: an AP view, which has more scatter: a grid is rarely used at the bedside
    noise: standard deviation of the signal where nothing absorbs, 0 upwards
    """
    size = len(attenuation)
    primary = cv2.exp(-attenuation)
    coarse = cv2.GaussianBlur(cv2.resize(primary, (64, 64), interpolation=cv2.INTER_AREA), (0, 0), 4)
    scatter = rng.uniform(0.25, 0.6) if is_bedside else rng.uniform(0.08, 0.3)  # relative to the primary beam
    intensity = (primary + np.float32(scatter) * np.minimum(upsample_map(coarse, size), 0.4)) / np.float32(1 + scatter)
    signal = -cv2.log(np.maximum(intensity, 1e-3))
    quantum_noise = sample_quantum_noise(rng, size) * np.minimum(cv2.exp(0.5 * signal), 12)
    return signal + quantum_noise * np.float32(noise * rng.uniform(0.5, 1.6))


def sample_quantum_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """White noise seen through the detector's blur: float32 [size, size], deviation .88 at 1024, less at less."""
    # Its own stream: what is drawn next must not depend on the number of pixels.
    noise_rng = np.random.default_rng(rng.integers(2**62))
    white_noise = np.empty((size, size), np.float32)
    noise_rng.standard_normal(out=white_noise, dtype=np.float32)
    return cv2.GaussianBlur(white_noise, (3, 3), 0.6) * np.float32(1.75 * (size / 1024) ** 0.5)


def apply_display_curve(rng: np.random.Generator, signal: np.ndarray, field: tuple[slice, slice]) -> np.ndarray:
    """The film-like curve of a digital radiograph, set by the signal in `field`: float32 [size, size], air dark."""
    thumbnail = cv2.resize(signal[field], (96, 96), interpolation=cv2.INTER_AREA)
    low, mid, high = np.percentile(thumbnail, [8, 50, 90])
    black_point = max(low - rng.uniform(0.15, 0.9) * (mid - low) - 0.2, thumbnail.min() + 0.1)  # open air stays black
    white_point = high + rng.uniform(0.05, 0.6) * (high - mid) + 0.1
    exposure_share = np.clip((signal - np.float32(black_point)) / np.float32(white_point - black_point), 0, 1.3)
    toe = rng.uniform(1.4, 3.0)
    curve = exposure_share ** np.float32(rng.uniform(0.65, 1.15))
    curve = (1 - np.exp(-toe * curve)) / np.float32(1 - np.exp(-toe)) * 0.45 + curve * 0.55
    peak_gray = rng.uniform(185, 240)
    return curve * np.float32(peak_gray)


def sharpen_picture(picture: np.ndarray, amount: float) -> np.ndarray:
    """Unsharp masking, as computed radiography does by default; its width is a share of the image."""
    thumbnail = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
    blurred = upsample_map(cv2.GaussianBlur(thumbnail, (0, 0), 2.5), len(picture))
    return cv2.addWeighted(picture, 1 + amount, blurred, -amount, 0)


def draw_collimation(rng: np.random.Generator, picture: np.ndarray, rate: float) -> None:
    """Shutters, at a rate of 0..1: borders left black, at times white, straight or a little askew."""
    size = len(picture)
    if rng.random() >= rate:
        return
    border_shares = rng.uniform(0, 0.07, 4) * (rng.random(4) < 0.6)
    skew = rng.normal(0, 0.008)
    left, top, right, bottom = border_shares[0], border_shares[1], 1 - border_shares[2], 1 - border_shares[3]
    corner_shares = [[left + skew, top - skew], [right + skew, top + skew], [right - skew, bottom + skew],
                     [left - skew, bottom - skew]]  # fmt: skip
    field_mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(field_mask, [np.round(np.array(corner_shares) * size).astype(np.int32)], 1)
    picture[field_mask == 0] = 245 if rng.random() < 0.2 else rng.uniform(0, 12)


def draw_markers(rng: np.random.Generator, picture: np.ndarray, pose: Pose) -> None:
    """The side marker, and the bedside's label in AP."""
    size = len(picture)
    is_left_marker = rng.random() < 0.65
    x = rng.uniform(0.86, 0.95) if is_left_marker else rng.uniform(0.03, 0.09)
    tilt = rng.normal(0, 12) + rng.choice([0, 0, 0, 90])
    position = (x * size, rng.uniform(0.05, 0.2) * size)
    draw_text(picture, "L" if is_left_marker else "R", position, rng.uniform(0.9, 1.7) * size / 1024, tilt)
    if pose.view_position == "AP" and rng.random() < 0.7:
        text = str(rng.choice(BEDSIDE_LABELS))
        position = (rng.uniform(0.05, 0.8) * size, rng.uniform(0.02, 0.12) * size)
        draw_text(picture, text, position, 0.7 * size / 1024, 0)


def draw_text(picture: np.ndarray, text: str, position: tuple[float, float], scale: float, tilt: float) -> None:
    """Draw bright letters into a picture.

    picture: float32 [size, size], changed in place
    text: what to write
    position: x and y of its centre in pixels; it is moved into the picture
    scale: of OpenCV's font; 1 makes capitals of about 22 pixels
    tilt: anticlockwise, in degrees
    """
    size = len(picture)
    patch = render_text_patch(text, scale, tilt)
    middle = len(patch) / 2
    x, y = (int(np.clip(coordinate - middle, -middle / 2, size - middle)) for coordinate in position)
    x, y = max(x, 0), max(y, 0)
    region = picture[y : y + len(patch), x : x + len(patch)]
    np.maximum(region, patch[: region.shape[0], : region.shape[1]].astype(np.float32) * 0.97, out=region)


def render_text_patch(text: str, scale: float, tilt: float) -> np.ndarray:
    """Letters in the middle of a square patch: uint8 [n, n], 255 in the letters; see `draw_text`."""
    font, side = cv2.FONT_HERSHEY_SIMPLEX, int(260 * scale) + 4
    patch, middle = np.zeros((side, side), np.uint8), side / 2
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    start, thickness = (int(middle - width / 2), int(middle + height / 2)), max(1, round(3 * scale))
    cv2.putText(patch, text, start, font, scale, 255, thickness, cv2.LINE_AA)
    return cv2.warpAffine(patch, cv2.getRotationMatrix2D((middle, middle), tilt, 1), patch.shape[::-1])
