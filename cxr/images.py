"""From a DICOM file to an 8-bit gray image with dark air, as a reader sees it on the screen.

Every step (modality, window, inversion) acts on each pixel alone, so it is worked out once for
each value that 8 or 16 stored bits can hold, and the image is looked up in that table.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, apply_voi

from cxr import dicom

STRIP = 1 << 18


def read_gray(path: Path, least: int | None = None) -> np.ndarray:
    """Gray image of any DICOM with one gray frame, uint8 [height, width], air dark.

    With `least`, an image may come out smaller by 2, 4 or 8, its longer side still >= `least`.
    Raises ImageError (a DataError) with the reason, in one line, for what cannot be shown rightly.
    """
    header = dicom.read(path)
    dicom.require_decodable(header)
    return gray(header, least)


def read(path: Path, least: int | None = None) -> tuple[np.ndarray, pydicom.Dataset]:
    """Gray image of a radiograph (see `read_gray`), and its header; any other modality is an ImageError."""
    header = dicom.read(path)
    dicom.require_radiograph(header)
    dicom.require_decodable(header)
    return gray(header, least), header


def gray(header: pydicom.Dataset, least: int | None = None) -> np.ndarray:
    """Gray image of a header that passed the checks of `dicom`."""
    if _is_plain(header):
        values = dicom.stored_values(header, least)
        return 255 - values if _is_inverted(header) else values
    stored = dicom.stored_values(header)
    with dicom.explained("its gray scale cannot be worked out"):
        return _look_up(_levels(header, stored), stored)


def _is_plain(header: pydicom.Dataset) -> bool:
    """Whether the stored 8 bits are the picture itself, but for an inversion: shrinking may come first."""
    transforms = ("ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "PixelPaddingValue")
    return header.BitsStored == 8 and _rescale(header) == (1, 0) and not any(header.get(name) for name in transforms)


def _is_inverted(header: pydicom.Dataset) -> bool:
    """MONOCHROME1 and the INVERSE shape say the same thing; both together invert once (PS3.3 C.7.6.3, C.11.6)."""
    return header.PhotometricInterpretation == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"


def _levels(header: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """Gray level of each stored value, uint8 [2 ** bits allocated]."""
    numbers = _numbers(header, np.arange(1 << stored.dtype.itemsize * 8))
    shown = np.zeros(len(numbers), bool)
    for rows in _strips(stored):
        shown[stored[rows]] = True
    padding = _is_padding(header, numbers)
    shown &= ~padding
    levels = _display(header, _modality(header, numbers), shown)
    if _is_inverted(header):
        levels = 255 - levels
    return np.where(padding, 0, np.rint(levels)).astype(np.uint8)  # padding is no tissue: as dark as air


def _look_up(levels: np.ndarray, stored: np.ndarray) -> np.ndarray:
    picture = np.empty(stored.shape, np.uint8)
    for rows in _strips(stored):
        picture[rows] = levels[stored[rows]]
    return picture


def _strips(image: np.ndarray) -> Iterator[slice]:
    """Rows of about STRIP pixels in all: NumPy turns what it indexes by into 8 bytes a pixel."""
    count = max(STRIP // image.shape[1], 1)
    return (slice(start, start + count) for start in range(0, len(image), count))


def _numbers(header: pydicom.Dataset, codes: np.ndarray) -> np.ndarray:
    """What stored codes mean: the bits in use, with their sign; old writers keep overlays in the others."""
    syntax = header.file_meta.TransferSyntaxUID
    bits = header.BitsAllocated if syntax in dicom.JPEG_2000 else header.BitsStored  # JPEG 2000 has no unused bits
    if syntax in dicom.NATIVE:
        codes = codes >> max(header.HighBit + 1 - bits, 0)
    codes = codes & ((1 << bits) - 1)
    return codes - ((codes >> (bits - 1)) << bits) if header.PixelRepresentation else codes


def _is_padding(header: pydicom.Dataset, numbers: np.ndarray) -> np.ndarray:
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(len(numbers), bool)
    limit = header.get("PixelPaddingRangeLimit")
    ends = sorted(_signed(header, end) for end in (value, value if limit is None else limit))
    return (numbers >= ends[0]) & (numbers <= ends[1])


def _signed(header: pydicom.Dataset, value: int | bytes) -> int:
    """A value of the pixels' own kind: implicit files leave it as two bytes, and some write -2000 as 63536."""
    number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
    return number - 65536 if header.PixelRepresentation and number > 32767 else number


def _modality(header: pydicom.Dataset, numbers: np.ndarray) -> np.ndarray:
    """Modality LUT, or rescale slope and intercept."""
    if header.get("ModalityLUTSequence"):
        return apply_modality_lut(numbers, header).astype(float)
    slope, intercept = _rescale(header)
    return numbers * slope + intercept


def _rescale(header: pydicom.Dataset) -> tuple[float, float]:
    return float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)


def _display(header: pydicom.Dataset, values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Gray 0..255 of modality values: the VOI LUT, else the first window, else as stored or min to max.

    shown: which of the values occur in the image, padding apart. A window that leaves a single level
    of an image that has more (a wrong centre, a width of 0) is passed over.
    """
    for display in (_voi_lut, _window, _as_stored):
        levels = display(header, values)
        if levels is not None and (np.ptp(levels[shown]) >= 1 or np.ptp(values[shown]) == 0):
            return levels
    low, high = values[shown].min(), values[shown].max()
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255


def _voi_lut(header: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    if not header.get("VOILUTSequence"):
        return None
    bits = header.VOILUTSequence[0].LUTDescriptor[2]
    return np.clip(apply_voi(np.rint(values).astype(np.int64), header) / ((1 << bits) - 1), 0, 1) * 255


def _window(header: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    """The first window, PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    center, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 0:
        return None
    function = header.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    if function != "LINEAR_EXACT":  # LINEAR: the standard's window is half a unit and one unit smaller
        center, width = center - 0.5, max(width - 1, 1e-9)
    return np.clip((values - center) / width + 0.5, 0, 1) * 255


def _first(value: object) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, list | tuple | pydicom.multival.MultiValue) else value)


def _as_stored(header: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    plain = header.BitsStored == 8 and not header.PixelRepresentation and _rescale(header) == (1, 0)
    return values.astype(float) if plain and not header.get("ModalityLUTSequence") else None
