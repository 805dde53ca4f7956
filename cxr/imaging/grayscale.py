"""From a DICOM file to an 8-bit gray image with dark air, as a reader sees it on the screen.

Every step (modality, window, inversion) acts on each pixel alone, so it is worked out once for
each stored value that occurs, and the image is looked up in that table. Where the standard leaves
it open: padding is as dark as air, a VOI LUT goes before a window and the first window before the
others, and 8 plain bits are shown as they are, all else from minimum to maximum. What the header
says and nobody could see (no number, no contrast) is refused, not guessed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian

from cxr.imaging import dicom, lookup_tables
from cxr.imaging.refusal import ImageError, limit_memory, raise_as_image_error

STRIP_PIXELS = 1 << 18
GRAY_CHANGING_TAGS = frozenset(map(Tag, (
    "ModalityLUTSequence", "VOILUTSequence", "PixelPaddingValue", "RescaleSlope", "RescaleIntercept", "WindowCenter",
    "WindowWidth",
)))  # fmt: skip


def read_gray(path: Path, min_longer_side: int | None = None) -> np.ndarray:
    """Gray image of any DICOM with one gray frame, uint8 [height, width], air dark.

    With `min_longer_side`, an image may come out smaller by 2, 4 or 8, its longer side no shorter than that.
    Raises ImageError (a DataError) with the reason, in one line, for what cannot be shown rightly.
    """
    with limit_memory():
        header = dicom.read_header(path)
        dicom.require_decodable(header)
        return render_gray(header, min_longer_side)


def read_radiograph(path: Path, min_longer_side: int | None = None) -> tuple[np.ndarray, pydicom.Dataset]:
    """Gray image of a radiograph (see `read_gray`), and its header; any other modality is an ImageError."""
    with limit_memory():
        header = dicom.read_header(path)
        dicom.require_radiograph(header)
        dicom.require_decodable(header)
        return render_gray(header, min_longer_side), header


def render_gray(header: pydicom.Dataset, min_longer_side: int | None = None) -> np.ndarray:
    """Gray image of a header that passed the checks of `dicom`; see `read_gray`."""
    with raise_as_image_error("its gray scale cannot be worked out"):
        is_plain = _is_plain(header)
        pixels = dicom.decode_stored_values(header, min_longer_side if is_plain else None)
        if is_plain and pixels.dtype == np.uint8 and header.BitsStored == 8:
            return 255 - pixels if _is_inverted(header) else pixels
        return _apply_gray_table(_build_gray_table(header, pixels), pixels)


def _is_plain(header: pydicom.Dataset) -> bool:
    """Whether the stored bytes are the picture itself, but for an inversion: shrinking may come first."""
    bits = (header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation)
    return bits == (8, 8, 7, 0) and (header.keys().isdisjoint(GRAY_CHANGING_TAGS) or not _is_changed(header))


def _is_changed(header: pydicom.Dataset) -> bool:
    """Whether the header has padding, a lookup table, rescaling or a window; 0 is a value, an empty element is not."""
    has_table = any(header.get(name) for name in ("ModalityLUTSequence", "VOILUTSequence"))
    has_padding = header.get("PixelPaddingValue") is not None
    return has_table or has_padding or _read_rescale(header) != (1, 0) or _read_first_window(header) is not None


def _is_inverted(header: pydicom.Dataset) -> bool:
    """MONOCHROME1 and the INVERSE shape say the same thing; both together invert once (PS3.3 C.7.6.3, C.11.6)."""
    return header.PhotometricInterpretation == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"


def _build_gray_table(header: pydicom.Dataset, pixels: np.ndarray) -> np.ndarray:
    """Gray level of each stored value, uint8 [2 ** bits of `pixels`]; 0 of those that do not occur."""
    code_occurs = np.zeros(1 << pixels.dtype.itemsize * 8, bool)
    for rows in _split_into_strips(pixels):
        code_occurs[pixels[rows]] = True
    codes = np.flatnonzero(code_occurs)
    numbers = _decode_numbers(header, codes)
    is_tissue = ~_is_padding(header, numbers)
    if not is_tissue.any():
        raise ImageError("every pixel is padding")
    levels = np.zeros(len(code_occurs), np.uint8)  # padding is no tissue: as dark as air
    levels[codes[is_tissue]] = np.rint(_numbers_to_gray(header, numbers[is_tissue]))
    return levels


def _numbers_to_gray(header: pydicom.Dataset, numbers: np.ndarray) -> np.ndarray:
    """Gray level 0..255 of pixel values, inverted where the photometric interpretation asks for it."""
    values = _apply_modality(header, numbers)
    value_range = np.ptp(values)
    if not np.isfinite(value_range):
        raise ImageError("its rescale slope and intercept lead to no finite numbers")
    if value_range == 0 < np.ptp(numbers):
        raise ImageError("all its pixels become equal by its rescale slope and intercept, or modality LUT")
    levels = _values_to_gray(header, values)
    return 255 - levels if _is_inverted(header) else levels


def _apply_gray_table(levels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    picture = np.empty(pixels.shape, np.uint8)
    for rows in _split_into_strips(pixels):
        picture[rows] = levels[pixels[rows]]
    return picture


def _split_into_strips(image: np.ndarray) -> Iterator[slice]:
    """Rows of about STRIP_PIXELS pixels in all: NumPy turns what it indexes by into 8 bytes a pixel."""
    count = max(STRIP_PIXELS // image.shape[1], 1)
    return (slice(start, start + count) for start in range(0, len(image), count))


def _decode_numbers(header: pydicom.Dataset, codes: np.ndarray) -> np.ndarray:
    """What stored codes mean: the bits in use, with their sign; old writers keep overlays in the others."""
    bits = header.BitsStored
    codes = (codes >> (header.HighBit + 1 - bits)) & ((1 << bits) - 1)
    return codes - ((codes >> (bits - 1)) << bits) if header.PixelRepresentation else codes


def _is_padding(header: pydicom.Dataset, numbers: np.ndarray) -> np.ndarray:
    value = _read_pixel_value(header, "PixelPaddingValue")
    if value is None:
        return np.zeros(len(numbers), bool)
    limit = _read_pixel_value(header, "PixelPaddingRangeLimit")
    ends = sorted((value, value if limit is None else limit))
    return (numbers >= ends[0]) & (numbers <= ends[1])


def _read_pixel_value(header: pydicom.Dataset, name: str) -> int | None:
    """A value of the pixels' own kind: implicit files leave it as two bytes, and some write -2000 as 63536."""
    value = header.get(name)
    if isinstance(value, bytes) and len(value) == 2:
        value = int.from_bytes(value, "big" if _is_big_endian(header) else "little")
    if not (value is None or isinstance(value, int)):
        raise ImageError(f"its {name} is no whole number")
    if value is None:
        return None
    return (value + 32768) % 65536 - 32768 if header.PixelRepresentation else value % 65536


def _is_big_endian(header: pydicom.Dataset) -> bool:
    return header.file_meta.TransferSyntaxUID == ExplicitVRBigEndian


def _apply_modality(header: pydicom.Dataset, numbers: np.ndarray) -> np.ndarray:
    """Modality LUT, or rescale slope and intercept."""
    if header.get("ModalityLUTSequence"):
        lut = lookup_tables.read_lut(
            header.ModalityLUTSequence[0], bool(header.PixelRepresentation), _is_big_endian(header)
        )
        return lut.look_up(numbers)
    slope, intercept = _read_rescale(header)
    return numbers * slope + intercept


def _read_rescale(header: pydicom.Dataset) -> tuple[float, float]:
    slope, intercept = (_read_numbers(header, name) for name in ("RescaleSlope", "RescaleIntercept"))
    for name, values in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if len(values) > 1:
            raise ImageError(f"its {name} has {len(values)} values")
    return next(iter(slope), 1.0), next(iter(intercept), 0.0)


def _read_numbers(header: pydicom.Dataset, name: str) -> list[float]:
    """The numbers of an element, none where it is absent or empty; ImageError where one is no finite number."""
    try:
        value = header.get(name)
        values = list(value) if isinstance(value, MultiValue | list) else [] if value in (None, "") else [value]
        numbers = [float(item) for item in values if item not in ("", None)]
    except Exception:  # pydicom's own kinds among them; their texts quote the value
        raise ImageError(f"its {name} is no number") from None
    if not np.isfinite(numbers).all():
        raise ImageError(f"its {name} is no finite number")
    return numbers


def _values_to_gray(header: pydicom.Dataset, values: np.ndarray) -> np.ndarray:
    """Gray 0..255 of modality values: the VOI LUT, else the first window, else as stored or min to max.

    values: those that occur in the image, padding apart. A window that leaves a single level
    of an image that has more (a wrong centre, a width of 0) is passed over.
    """
    for compute_levels in (_apply_voi_lut, _apply_window, _show_as_stored):
        levels = compute_levels(header, values)
        if levels is not None and (np.ptp(levels) >= 1 or np.ptp(values) == 0):
            return levels
    return (values - values.min()) / (np.ptp(values) or 1) * 255


def _apply_voi_lut(header: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    if not header.get("VOILUTSequence"):
        return None
    lut = lookup_tables.read_lut(header.VOILUTSequence[0], _can_be_negative(header), _is_big_endian(header))
    return lut.look_up(values) / lut.white_level * 255


def _can_be_negative(header: pydicom.Dataset) -> bool:
    """Whether modality values below 0 are possible: the first value of a VOI LUT is then signed (PS3.3 C.11.2.1.1)."""
    codes = np.array([0, (1 << header.BitsStored) - 1, 1 << (header.BitsStored - 1)])
    ends = _decode_numbers(header, codes << (header.HighBit + 1 - header.BitsStored))
    return bool(_apply_modality(header, ends).min() < 0)


def _apply_window(header: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    """The first window, PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    window = _read_first_window(header)
    if window is None or window[1] <= 0:
        return None
    center, width = window
    function = header.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    if function not in ("LINEAR", "LINEAR_EXACT"):
        raise ImageError("its VOILUTFunction is none of LINEAR, LINEAR_EXACT, SIGMOID")
    if function == "LINEAR":  # the standard's window is half a unit and one unit smaller
        center, width = center - 0.5, width - 1
    if width <= 0:
        return np.where(values <= center, 0.0, 255.0)
    return np.clip((values - center) / width + 0.5, 0, 1) * 255


def _read_first_window(header: pydicom.Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window; None where there is none."""
    centers, widths = (_read_numbers(header, name) for name in ("WindowCenter", "WindowWidth"))
    return (centers[0], widths[0]) if centers and widths else None


def _show_as_stored(header: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    is_plain = header.BitsStored == 8 and not header.PixelRepresentation and _read_rescale(header) == (1, 0)
    return values.astype(float) if is_plain and not header.get("ModalityLUTSequence") else None
