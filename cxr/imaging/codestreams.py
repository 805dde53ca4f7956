"""Coded frames of pixel data: a frame's own header is checked before anything is decoded.

A JPEG 2000 of 100 bytes that declared 60,000 x 60,000 took 19 GB.
"""

import io
import struct
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image
from pydicom.uid import JPEG2000
from pylibjpeg.utils import get_pixel_data_decoders

from cxr.imaging.refusal import ImageError

MAX_SCANNED_PIXELS = 400_000_000  # pixels times scans of a progressive JPEG: each scan goes over the whole picture
CODESTREAM_START = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ: each JPEG 2000 code stream begins with them
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"  # a JP2 file around it, which DICOM forbids and some writers write


def decode_jpeg(frame: bytes, height: int, width: int, min_longer_side: int | None) -> np.ndarray:
    """An 8-bit gray JPEG, uint8 [height, width], or smaller by 2, 4 or 8 in both sides.

    frame: the encoded bytes.
    height, width: pixels, as the DICOM header says.
    min_longer_side: pixels that the longer side must keep; None decodes at full size. A smaller image is averaged by
        the inverse DCT: within .2 gray levels of a full decode's area average.

    Raises ImageError where the frame is not what the header says, or has too many scans.
    """
    image = Image.open(io.BytesIO(frame), formats=["JPEG"])
    if image.format != "JPEG" or image.mode != "L" or image.size != (width, height):
        description = f"{image.format} {image.mode} of {image.size[0]} x {image.size[1]}"
        raise ImageError(f"its frame is {description}, but the header says JPEG, gray, {width} x {height}")
    if image.info.get("progressive") and frame.count(b"\xff\xda") * height * width > MAX_SCANNED_PIXELS:
        raise ImageError("its JPEG has too many scans")
    shrink_factor = _choose_shrink_factor(height, width, min_longer_side)
    if shrink_factor > 1:
        image.draft("L", (width // shrink_factor, height // shrink_factor))
    return np.asarray(image)


def _choose_shrink_factor(height: int, width: int, min_longer_side: int | None) -> int:
    """The largest of 8, 4, 2, 1 that divides both sides and leaves `min_longer_side` pixels along the longer one."""
    factors = (
        factor
        for factor in (8, 4, 2)
        if min_longer_side
        and height % factor == width % factor == 0
        and max(height, width) // factor >= min_longer_side
    )
    return next(factors, 1)


def decode_jpeg_2000(frame: bytes, height: int, width: int, max_bits: int) -> tuple[np.ndarray, int, bool]:
    """A gray JPEG 2000 image (ISO/IEC 15444-1).

    frame: the code stream, or a JP2 file that holds it.
    height, width: pixels, as the DICOM header says.
    max_bits: bits of a pixel that the header allows.

    Returns the pixels, uint8 or uint16 [height, width], their bits, and whether they are signed.
    Raises ImageError where the frame is not what the header says.
    """
    stream = _extract_codestream(frame)
    xsiz, ysiz, left, top = struct.unpack_from(">4L", stream, 8)  # ISO/IEC 15444-1 A.5.1
    components, depth = struct.unpack_from(">HB", stream, 40)
    bits = (depth & 0x7F) + 1
    if (xsiz - left, ysiz - top, components) != (width, height, 1) or bits > max_bits:
        description = f"JPEG 2000 of {xsiz - left} x {ysiz - top}, {components} components, {bits} bits"
        raise ImageError(f"its frame is {description}, but the header says {width} x {height}, gray, {max_bits} bits")
    values = np.frombuffer(_load_openjpeg_decoder()(stream, version=2), "u1" if bits <= 8 else "<u2")
    return values.reshape(height, width), bits, bool(depth & 0x80)


def _extract_codestream(frame: bytes) -> bytes:
    """The code stream itself, out of the boxes of a JP2 file where it lies in one (ISO/IEC 15444-1 I.4)."""
    offset = 0
    while frame.startswith(JP2_SIGNATURE) and offset + 8 <= len(frame):
        length, box_type = struct.unpack_from(">L4s", frame, offset)
        if box_type == b"jp2c":
            frame = frame[offset + (16 if length == 1 else 8) :]
        elif length < 8:
            break
        offset += length
    if not frame.startswith(CODESTREAM_START):
        raise ImageError("its frame is no JPEG 2000 code stream")
    return frame


@cache
def _load_openjpeg_decoder() -> Callable:
    """pylibjpeg-openjpeg's decoder, the only one for this syntax; to look it up takes 10 ms."""
    (decode,) = get_pixel_data_decoders(version=2)[JPEG2000].values()
    return decode


def decode_rle(frame: bytes, height: int, width: int, bits_allocated: int) -> np.ndarray:
    """A frame of DICOM's RLE (PS3.5 Annex G), uint8 or uint16 [height, width].

    frame: the header of 64 bytes, and a segment for each byte of a pixel, the highest byte first.
    height, width: pixels.
    bits_allocated: 8 or 16.

    Pillow unpacks the segments, stops at the last pixel, and raises where they end early; pylibjpeg-rle panics.
    """
    count, *offsets = struct.unpack_from("<16L", frame)
    if count != bits_allocated // 8:
        raise ImageError(f"its RLE frame has {count} segments for pixels of {bits_allocated} bits")
    ends = [*offsets[1:count], len(frame)]
    planes = np.empty((height, width, count), np.uint8)
    for segment, (start, end) in enumerate(zip(offsets, ends, strict=False)):
        plane = Image.frombytes("L", (height * width, 1), frame[start:end], "packbits", "L")
        planes[:, :, count - 1 - segment] = np.asarray(plane).reshape(height, width)
    return planes.view(f"<u{count}")[:, :, 0]
