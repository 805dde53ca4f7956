"""One DICOM file: its header and stored pixel values, or in one line why it is refused.

Decoders are pinned: Pillow for JPEG (faster than GDCM by four, and no GDCM with its open CVEs) and RLE,
pylibjpeg's OpenJPEG for JPEG 2000. What they cannot do is refused by name.
"""

import logging
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.tag import BaseTag, Tag

from cxr.imaging import bounded_reading, codestreams
from cxr.imaging.bounded_reading import MAX_PIXELS
from cxr.imaging.refusal import HIDDEN, ImageError, describe_cause, quote_code_string, raise_as_image_error

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote header values
logging.getLogger("pydicom").propagate = False  # so do its log lines

MAX_JPEG_2000_PIXELS = 32_000_000  # .11 s a megapixel of 16 bits: 5 s a file
RADIOGRAPH_MODALITIES = ("CR", "DX", "DR", "RG")  # DR is not in the standard, but in hospitals
NATIVE_SYNTAXES = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)  # fmt: skip
JPEG_SYNTAXES = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
JPEG_2000_SYNTAXES = (uid.JPEG2000Lossless, uid.JPEG2000)
SUPPORTED_SYNTAXES = (*NATIVE_SYNTAXES, *JPEG_SYNTAXES, *JPEG_2000_SYNTAXES, uid.RLELossless)
CONVERSION_ADVICE = "is not supported; convert with 'gdcmconv --raw IN OUT'"

# Read nothing else: faster, and no patient's name or id ever enters the program.
TAGS = [
    "SOPClassUID", "Modality", "PatientAge", "PatientSex", "ViewPosition", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelData",
]  # fmt: skip
WHOLE_NUMBERS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip


def read_header(path: Path, extra_names: Sequence[str] = ()) -> pydicom.Dataset:
    """The elements of TAGS and those named in `extra_names`, defaults filled in, pixel data still coded.

    Raises ImageError where it is no DICOM file, or where one of WHOLE_NUMBERS is none.
    """
    with raise_as_image_error("cannot be read"):
        header = bounded_reading.read_elements(path, _look_up_tags(*TAGS, *extra_names))
    with raise_as_image_error("its header is damaged"):
        _fill_in_defaults(header)
    return header


@cache
def _look_up_tags(*names: str) -> list[BaseTag]:
    """To look them up takes as long as to read them."""
    return [Tag(name) for name in names]


def _fill_in_defaults(header: pydicom.Dataset) -> None:
    """Set what follows from the rest where a writer left it out."""
    numbers = {name: _read_whole_number(header, name) for name in WHOLE_NUMBERS}
    for name in ("PhotometricInterpretation", "PresentationLUTShape", "VOILUTFunction"):
        if read_code_string(header, name):  # some writers spell them in small letters
            setattr(header, name, read_code_string(header, name))
    if not header.file_meta.get("TransferSyntaxUID"):
        is_implicit, is_little_endian = header.original_encoding
        syntax = NATIVE_SYNTAXES[0] if is_implicit else NATIVE_SYNTAXES[1] if is_little_endian else NATIVE_SYNTAXES[2]
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = syntax
    if numbers["BitsAllocated"] is None:
        return
    is_jpeg = header.file_meta.TransferSyntaxUID in (
        *JPEG_SYNTAXES,
        *JPEG_2000_SYNTAXES,
    )  # their streams have no unused bits
    bits = numbers["BitsAllocated"] if numbers["BitsStored"] is None else numbers["BitsStored"]
    defaults = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0, "SamplesPerPixel": 1}
    for name, value in defaults.items():
        if numbers[name] is None or (is_jpeg and name == "HighBit" and numbers[name] != value):
            setattr(header, name, value)


def _read_whole_number(header: pydicom.Dataset, name: str) -> int | None:
    try:
        value = header.get(name)
    except Exception as error:  # whatever pydicom raises on a damaged element
        raise ImageError(f"its header is damaged: {name}: {describe_cause(error)}") from None
    if value is None or value == "":  # of blanks alone
        return None
    if not isinstance(value, int):
        raise ImageError(f"its header is damaged: {name} is no whole number")
    return value


def read_code_string(header: pydicom.Dataset, name: str) -> str:
    """A code string of the header in capitals, '' where there is none, HIDDEN where it is damaged or too long."""
    try:
        return quote_code_string(header.get(name))
    except Exception:  # whatever pydicom raises on a damaged element
        return HIDDEN


def require_radiograph(header: pydicom.Dataset) -> None:
    """ImageError unless the modality is a radiograph's, or unnamed (a plain gray image passes)."""
    modality = read_code_string(header, "Modality")
    if modality and modality not in RADIOGRAPH_MODALITIES:
        raise ImageError(f"not a radiograph: modality {modality} (accepted: {', '.join(RADIOGRAPH_MODALITIES)})")


def require_decodable(header: pydicom.Dataset) -> None:
    """ImageError unless the header promises one gray frame of a sensible size in a syntax that is decoded."""
    with raise_as_image_error("its header is damaged"):
        if "PixelData" not in header:
            raise ImageError("holds no pixel data")
        _require_gray(header)
        _require_size(header)
        _require_syntax(header)
        _require_bits(header)


def _require_gray(header: pydicom.Dataset) -> None:
    missing_names = [name for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
               if not header.get(name)]  # fmt: skip
    if missing_names:
        raise ImageError(f"its header lacks {', '.join(missing_names)}")
    photometric = header.PhotometricInterpretation
    if header.SamplesPerPixel != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        description = f"{quote_code_string(photometric)}, {header.SamplesPerPixel} samples a pixel"
        raise ImageError(f"a colour image ({description}), not a gray one")
    if header.BitsAllocated not in (8, 16) or not 0 < header.BitsStored <= header.BitsAllocated:
        raise ImageError(f"{header.BitsStored} of {header.BitsAllocated} bits a pixel are not supported (8, 16 are)")


def _require_size(header: pydicom.Dataset) -> None:
    frames, pixels = header.get("NumberOfFrames") or 1, header.Rows * header.Columns
    max_pixels = MAX_JPEG_2000_PIXELS if header.file_meta.TransferSyntaxUID in JPEG_2000_SYNTAXES else MAX_PIXELS
    if frames != 1:
        raise ImageError(f"holds {frames} frames; a radiograph has one")
    if pixels > max_pixels:
        size = f"{header.Columns} x {header.Rows}"
        raise ImageError(f"too large: {size} is over {max_pixels // 1_000_000} megapixels")


def _require_syntax(header: pydicom.Dataset) -> None:
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in SUPPORTED_SYNTAXES:
        raise ImageError(f"{_describe_syntax(syntax)} {CONVERSION_ADVICE}")
    if syntax in JPEG_SYNTAXES and header.BitsAllocated != 8:
        raise ImageError(f"{_describe_syntax(syntax)} of {header.BitsStored} bits {CONVERSION_ADVICE}")


def _describe_syntax(syntax: uid.UID) -> str:
    """A transfer syntax in words; an unknown one by its UID, where that is short and nothing but a UID."""
    if isinstance(syntax, uid.UID) and syntax.name != str(syntax):
        return f"{syntax.name} ({syntax})"
    return "its transfer syntax " + (f"({syntax})" if re.fullmatch(r"[0-9.]{1,16}", str(syntax)) else HIDDEN)


def _require_bits(header: pydicom.Dataset) -> None:
    """PS3.5 8.1.1 (the bits in use lie within those allocated) and 8.2.1 (a lossy JPEG has 8 bits, unsigned)."""
    bits_stored, high_bit, bits_allocated = header.BitsStored, header.HighBit, header.BitsAllocated
    if not bits_stored - 1 <= high_bit < bits_allocated:
        raise ImageError(f"its {bits_stored} bits cannot end at bit {high_bit} of {bits_allocated}")
    if header.PixelRepresentation not in (0, 1):
        raise ImageError("its PixelRepresentation is neither 0 nor 1")
    if header.file_meta.TransferSyntaxUID in JPEG_SYNTAXES and (bits_stored != 8 or header.PixelRepresentation):
        raise ImageError("its header says other than 8 bits, unsigned, of a JPEG")


def decode_stored_values(header: pydicom.Dataset, min_longer_side: int | None = None) -> np.ndarray:
    """Pixels as stored, uint8 or uint16 [height, width], before sign and unused bits are handled.

    With `min_longer_side`, a JPEG may come out smaller by 2, 4 or 8, its longer side no shorter than that.
    Of JPEG 2000, BitsStored becomes what the code stream has. Raises ImageError.
    """
    syntax, shape = header.file_meta.TransferSyntaxUID, (header.Rows, header.Columns)
    with raise_as_image_error("its pixel data cannot be decoded"):
        if not isinstance(header.PixelData, bytes):
            raise ImageError("its pixel data is damaged")
        if syntax in JPEG_SYNTAXES:
            return codestreams.decode_jpeg(_extract_frame(header), *shape, min_longer_side)
        if syntax in JPEG_2000_SYNTAXES:
            values, bits, is_signed = codestreams.decode_jpeg_2000(_extract_frame(header), *shape, header.BitsAllocated)
            header.BitsStored, header.HighBit = bits, bits - 1
            header.PixelRepresentation = int(is_signed or header.PixelRepresentation)
            return values
        if syntax == uid.RLELossless:
            return codestreams.decode_rle(_extract_frame(header), *shape, header.BitsAllocated)
        return _read_native_pixels(header).reshape(shape)


def _read_native_pixels(header: pydicom.Dataset) -> np.ndarray:
    """Uncompressed pixels, uint8 or uint16 [pixels]; big-endian words of 8-bit pixels hold two, the second first."""
    if header["PixelData"].is_undefined_length:
        raise ImageError("its pixel data is coded, but its transfer syntax says it is not")
    needed_bytes, available_bytes = _count_native_bytes(header), len(header.PixelData)
    if available_bytes < needed_bytes:
        raise ImageError(f"its pixel data is cut short: {available_bytes} of {needed_bytes} bytes")
    is_big, bytes_per_pixel = header.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian, header.BitsAllocated // 8
    if is_big and bytes_per_pixel == 1 and header["PixelData"].VR == "OW":
        return np.frombuffer(header.PixelData, ">u2").astype("<u2").view("u1")[:needed_bytes]
    values = np.frombuffer(
        header.PixelData, f"{'>' if is_big else '<'}u{bytes_per_pixel}", count=needed_bytes // bytes_per_pixel
    )
    return values.astype(f"u{bytes_per_pixel}", copy=False)


def _count_native_bytes(header: pydicom.Dataset) -> int:
    """Bytes of the pixels as they are stored natively."""
    return header.Rows * header.Columns * header.BitsAllocated // 8


def _extract_frame(header: pydicom.Dataset) -> bytes:
    """The coded frame; ImageError where it is larger than any coder makes it."""
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    if len(frame) > 2 * _count_native_bytes(header) + (1 << 20):
        raise ImageError("its frame takes more bytes than its pixels do")
    return frame
