"""8-bit gray images as the bytes of a PNG or JPEG file."""

import cv2
import numpy as np

JPEG_QUALITY = 95
# For a radiograph of 1024 x 1024 (mean of 30): 13 ms, 313 KB; OpenCV's defaults 10 ms, 407 KB; Pillow's 171 ms, 334 KB.
PNG_OPTIONS = (
    cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
)  # fmt: skip


def encode_png(image: np.ndarray) -> bytes:
    """PNG of an image, uint8 [height, width]; lossless."""
    return cv2.imencode(".png", image, PNG_OPTIONS)[1].tobytes()


def encode_jpeg(image: np.ndarray) -> bytes:
    """JPEG of an image, uint8 [height, width], at quality 95; lossy."""
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()
