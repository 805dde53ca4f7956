"""Coded frames of pixel data: what a frame says of itself is looked at before anything is decoded.

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

from cxr.refusal import ImageError

MOST_SCANS = 400_000_000  # pixels times scans of a progressive JPEG: each scan goes over the whole picture
CODESTREAM = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ: each JPEG 2000 code stream begins with them
JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"  # a JP2 file around it, which DICOM forbids and some writers write


def decode_jpeg(frame: bytes, height: int, width: int, least: int | None) -> np.ndarray:
    """A JPEG of 8 bits, uint8 [height, width]; with `least`, smaller by 2, 4 or 8, its longer side still >= `least`.

    Where less is wanted, the inverse DCT averages: .2 gray levels from a full decode's area average.
    """
    image = Image.open(io.BytesIO(frame), formats=["JPEG"])
    if image.format != "JPEG" or image.mode != "L" or image.size != (width, height):
        kind = f"{image.format} {image.mode} of {image.size[0]} x {image.size[1]}"
        raise ImageError(f"its frame is {kind}, but the header says JPEG, gray, {width} x {height}")
    if image.info.get("progressive") and frame.count(b"\xff\xda") * height * width > MOST_SCANS:
        raise ImageError("its JPEG has too many scans")
    shrink = _shrinkage(height, width, least)
    if shrink > 1:
        image.draft("L", (width // shrink, height // shrink))
    return np.asarray(image)


def _shrinkage(height: int, width: int, least: int | None) -> int:
    """The largest of 8, 4, 2, 1 that divides both sides and leaves `least` pixels along the longer one."""
    fits = (n for n in (8, 4, 2) if least and height % n == width % n == 0 and max(height, width) // n >= least)
    return next(fits, 1)


def decode_jpeg_2000(frame: bytes, height: int, width: int, most_bits: int) -> tuple[np.ndarray, int, bool]:
    """A gray JPEG 2000, uint8 or uint16 [height, width], its bits a pixel, `most_bits` at most, and whether signed."""
    stream = _bare(frame)
    xsiz, ysiz, left, top = struct.unpack_from(">4L", stream, 8)  # ISO/IEC 15444-1 A.5.1
    components, depth = struct.unpack_from(">HB", stream, 40)
    bits = (depth & 0x7F) + 1
    if (xsiz - left, ysiz - top, components) != (width, height, 1) or bits > most_bits:
        kind = f"JPEG 2000 of {xsiz - left} x {ysiz - top}, {components} components, {bits} bits"
        raise ImageError(f"its frame is {kind}, but the header says {width} x {height}, gray, {most_bits} bits")
    values = np.frombuffer(_openjpeg()(stream, version=2), "u1" if bits <= 8 else "<u2")
    return values.reshape(height, width), bits, bool(depth & 0x80)


def _bare(frame: bytes) -> bytes:
    """The code stream itself, out of the boxes of a JP2 file where it lies in one (ISO/IEC 15444-1 I.4)."""
    offset = 0
    while frame.startswith(JP2) and offset + 8 <= len(frame):
        length, kind = struct.unpack_from(">L4s", frame, offset)
        if kind == b"jp2c":
            frame = frame[offset + (16 if length == 1 else 8) :]
        elif length < 8:
            break
        offset += length
    if not frame.startswith(CODESTREAM):
        raise ImageError("its frame is no JPEG 2000 code stream")
    return frame


@cache
def _openjpeg() -> Callable:
    """pylibjpeg-openjpeg's decoder, the only one for this syntax; to look it up takes 10 ms."""
    (decode,) = get_pixel_data_decoders(version=2)[JPEG2000].values()
    return decode


def decode_rle(frame: bytes, height: int, width: int, allocated: int) -> np.ndarray:
    """A frame of PS3.5 G, uint8 or uint16 [height, width]: a segment for each byte of a pixel, the highest first.

    Pillow unpacks them, stops at the last pixel, and raises where they end early; pylibjpeg-rle panics.
    """
    count, *offsets = struct.unpack_from("<16L", frame)
    if count != allocated // 8:
        raise ImageError(f"its RLE frame has {count} segments for pixels of {allocated} bits")
    ends = [*offsets[1:count], len(frame)]
    planes = np.empty((height, width, count), np.uint8)
    for place, (start, end) in enumerate(zip(offsets, ends, strict=False)):
        plane = Image.frombytes("L", (height * width, 1), frame[start:end], "packbits", "L")
        planes[:, :, count - 1 - place] = np.asarray(plane).reshape(height, width)
    return planes.view(f"<u{count}")[:, :, 0]
