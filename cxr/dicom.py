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

from cxr import bounded, codestreams
from cxr.bounded import MAX_PIXELS
from cxr.refusal import HIDDEN, ImageError, cause, explained, quoted

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote header values
logging.getLogger("pydicom").propagate = False  # so do its log lines

MAX_JPEG_2000_PIXELS = 32_000_000  # .11 s a megapixel of 16 bits: 5 s a file
RADIOGRAPHS = ("CR", "DX", "DR", "RG")  # DR is not in the standard, but in hospitals
NATIVE = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)  # fmt: skip
JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
DECODED = (*NATIVE, *JPEG, *JPEG_2000, uid.RLELossless)
CONVERT = "is not supported; convert with 'gdcmconv --raw IN OUT'"

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


def read(path: Path, more: Sequence[str] = ()) -> pydicom.Dataset:
    """The elements of TAGS and those named in `more`, defaults filled in, pixel data still coded.

    Raises ImageError where it is no DICOM file, or where one of WHOLE_NUMBERS is none.
    """
    with explained("cannot be read"):
        header = bounded.read_elements(path, _tags(*TAGS, *more))
    with explained("its header is damaged"):
        _fill_in(header)
    return header


@cache
def _tags(*names: str) -> list[BaseTag]:
    """To look them up takes as long as to read them."""
    return [Tag(name) for name in names]


def _fill_in(header: pydicom.Dataset) -> None:
    """Set what follows from the rest where a writer left it out."""
    numbers = {name: _whole_number(header, name) for name in WHOLE_NUMBERS}
    for name in ("PhotometricInterpretation", "PresentationLUTShape", "VOILUTFunction"):
        if code(header, name):  # some writers spell them in small letters
            setattr(header, name, code(header, name))
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        guess = NATIVE[0] if implicit else NATIVE[1] if little else NATIVE[2]
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = guess
    if numbers["BitsAllocated"] is None:
        return
    coded = header.file_meta.TransferSyntaxUID in (*JPEG, *JPEG_2000)  # their streams have no unused bits
    bits = numbers["BitsAllocated"] if numbers["BitsStored"] is None else numbers["BitsStored"]
    meant = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0, "SamplesPerPixel": 1}
    for name, value in meant.items():
        if numbers[name] is None or (coded and name == "HighBit" and numbers[name] != value):
            setattr(header, name, value)


def _whole_number(header: pydicom.Dataset, name: str) -> int | None:
    try:
        value = header.get(name)
    except Exception as error:  # whatever pydicom raises on a damaged element
        raise ImageError(f"its header is damaged: {name}: {cause(error)}") from None
    if value is None or value == "":  # of blanks alone
        return None
    if not isinstance(value, int):
        raise ImageError(f"its header is damaged: {name} is no whole number")
    return value


def code(header: pydicom.Dataset, name: str) -> str:
    """A code string of the header in capitals, '' where there is none, HIDDEN where it is damaged or too long."""
    try:
        return quoted(header.get(name))
    except Exception:  # whatever pydicom raises on a damaged element
        return HIDDEN


def require_radiograph(header: pydicom.Dataset) -> None:
    """ImageError unless the modality is a radiograph's, or unnamed (a plain gray image passes)."""
    modality = code(header, "Modality")
    if modality and modality not in RADIOGRAPHS:
        raise ImageError(f"not a radiograph: modality {modality} (accepted: {', '.join(RADIOGRAPHS)})")


def require_decodable(header: pydicom.Dataset) -> None:
    """ImageError unless the header promises one gray frame of a sensible size in a syntax that is decoded."""
    with explained("its header is damaged"):
        if "PixelData" not in header:
            raise ImageError("holds no pixel data")
        _require_gray(header)
        _require_size(header)
        _require_syntax(header)
        _require_bits(header)


def _require_gray(header: pydicom.Dataset) -> None:
    lacking = [name for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
               if not header.get(name)]  # fmt: skip
    if lacking:
        raise ImageError(f"its header lacks {', '.join(lacking)}")
    photometric = header.PhotometricInterpretation
    if header.SamplesPerPixel != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        kind = f"{quoted(photometric)}, {header.SamplesPerPixel} samples a pixel"
        raise ImageError(f"a colour image ({kind}), not a gray one")
    if header.BitsAllocated not in (8, 16) or not 0 < header.BitsStored <= header.BitsAllocated:
        raise ImageError(f"{header.BitsStored} of {header.BitsAllocated} bits a pixel are not supported (8, 16 are)")


def _require_size(header: pydicom.Dataset) -> None:
    frames, pixels = header.get("NumberOfFrames") or 1, header.Rows * header.Columns
    most = MAX_JPEG_2000_PIXELS if header.file_meta.TransferSyntaxUID in JPEG_2000 else MAX_PIXELS
    if frames != 1:
        raise ImageError(f"holds {frames} frames; a radiograph has one")
    if pixels > most:
        size = f"{header.Columns} x {header.Rows}"
        raise ImageError(f"too large: {size} is over {most // 1_000_000} megapixels")


def _require_syntax(header: pydicom.Dataset) -> None:
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in DECODED:
        raise ImageError(f"{_name(syntax)} {CONVERT}")
    if syntax in JPEG and header.BitsAllocated != 8:
        raise ImageError(f"{_name(syntax)} of {header.BitsStored} bits {CONVERT}")


def _name(syntax: uid.UID) -> str:
    """A transfer syntax in words; an unknown one by its UID, where that is short and nothing but a UID."""
    if isinstance(syntax, uid.UID) and syntax.name != str(syntax):
        return f"{syntax.name} ({syntax})"
    return "its transfer syntax " + (f"({syntax})" if re.fullmatch(r"[0-9.]{1,16}", str(syntax)) else HIDDEN)


def _require_bits(header: pydicom.Dataset) -> None:
    """PS3.5 8.1.1 (the bits in use lie within those allocated) and 8.2.1 (a lossy JPEG has 8 bits, unsigned)."""
    stored, high, allocated = header.BitsStored, header.HighBit, header.BitsAllocated
    if not stored - 1 <= high < allocated:
        raise ImageError(f"its {stored} bits cannot end at bit {high} of {allocated}")
    if header.PixelRepresentation not in (0, 1):
        raise ImageError("its PixelRepresentation is neither 0 nor 1")
    if header.file_meta.TransferSyntaxUID in JPEG and (stored != 8 or header.PixelRepresentation):
        raise ImageError("its header says other than 8 bits, unsigned, of a JPEG")


def stored_values(header: pydicom.Dataset, least: int | None = None) -> np.ndarray:
    """Pixels as stored, uint8 or uint16 [height, width], neither sign nor unused bits seen to.

    With `least`, a JPEG may come out smaller by 2, 4 or 8, its longer side still >= `least`.
    Of JPEG 2000, BitsStored becomes what the code stream has. Raises ImageError.
    """
    syntax, shape = header.file_meta.TransferSyntaxUID, (header.Rows, header.Columns)
    with explained("its pixel data cannot be decoded"):
        if not isinstance(header.PixelData, bytes):
            raise ImageError("its pixel data is damaged")
        if syntax in JPEG:
            return codestreams.decode_jpeg(_frame(header), *shape, least)
        if syntax in JPEG_2000:
            values, bits, signed = codestreams.decode_jpeg_2000(_frame(header), *shape, header.BitsAllocated)
            header.BitsStored, header.HighBit = bits, bits - 1
            header.PixelRepresentation = int(signed or header.PixelRepresentation)
            return values
        if syntax == uid.RLELossless:
            return codestreams.decode_rle(_frame(header), *shape, header.BitsAllocated)
        return _native(header).reshape(shape)


def _native(header: pydicom.Dataset) -> np.ndarray:
    """Uncompressed pixels, uint8 or uint16 [pixels]; big-endian words of 8-bit pixels hold two, the second first."""
    if header["PixelData"].is_undefined_length:
        raise ImageError("its pixel data is coded, but its transfer syntax says it is not")
    needed, size = _size(header), len(header.PixelData)
    if size < needed:
        raise ImageError(f"its pixel data is cut short: {size} of {needed} bytes")
    is_big, width = header.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian, header.BitsAllocated // 8
    if is_big and width == 1 and header["PixelData"].VR == "OW":
        return np.frombuffer(header.PixelData, ">u2").astype("<u2").view("u1")[:needed]
    values = np.frombuffer(header.PixelData, f"{'>' if is_big else '<'}u{width}", count=needed // width)
    return values.astype(f"u{width}", copy=False)


def _size(header: pydicom.Dataset) -> int:
    """Bytes of the pixels as they are stored natively."""
    return header.Rows * header.Columns * header.BitsAllocated // 8


def _frame(header: pydicom.Dataset) -> bytes:
    """The coded frame; ImageError where it is larger than any coder makes it."""
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    if len(frame) > 2 * _size(header) + (1 << 20):
        raise ImageError("its frame takes more bytes than its pixels do")
    return frame
