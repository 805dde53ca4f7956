"""One DICOM file: its header and stored pixel values, or in one line why it is refused.

Decoders are pinned: Pillow for JPEG (faster than GDCM by four, and no GDCM with its open CVEs),
pylibjpeg's OpenJPEG for JPEG 2000 and its RLE decoder. What they cannot do is refused by name.
"""

import io
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from cxr.errors import DataError

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote header values

MAX_PIXELS = 100_000_000
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


class ImageError(DataError):
    """The file is refused; the text is the reason, in one line, without the file's name."""


@contextmanager
def explained(what: str):
    """Turn whatever a reader raises on a damaged file into an ImageError '<what>: <reason>'."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ImageError(f"{what}: {lines[0][:200]}") from error


def read(path: Path) -> pydicom.Dataset:
    """The elements of TAGS, defaults filled in, pixel data still coded; ImageError where it is no DICOM."""
    with explained("cannot be read"):
        _require_dicom(path)
        header = pydicom.dcmread(path, specific_tags=TAGS, force=True, defer_size=64 << 20)
    with explained("its header is damaged"):
        _fill_in(header)
    return header


def _require_dicom(path: Path) -> None:
    with open(path, "rb") as handle:
        start = handle.read(132)
    # Without a preamble, as older archives write: the file begins with group 0002 or 0008, in either byte order.
    bare = start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
    if not start:
        raise ImageError("the file is empty")
    if start[128:] != b"DICM" and not bare:
        raise ImageError("not a DICOM file (it has no DICM prefix)")


def _fill_in(header: pydicom.Dataset) -> None:
    """Set what follows from the rest where a writer left it out."""
    if "TransferSyntaxUID" not in getattr(header, "file_meta", {}):
        implicit, little = header.original_encoding
        guess = NATIVE[0] if implicit else NATIVE[1] if little else NATIVE[2]
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = guess
    if header.get("BitsAllocated") is None:
        return
    header.BitsStored = header.get("BitsStored") or header.BitsAllocated
    header.HighBit = header.BitsStored - 1 if header.get("HighBit") is None else header.HighBit
    header.PixelRepresentation = header.get("PixelRepresentation") or 0
    header.SamplesPerPixel = header.get("SamplesPerPixel") or 1


def require_radiograph(header: pydicom.Dataset) -> None:
    """ImageError unless the modality is a radiograph's, or unnamed (a plain gray image passes)."""
    modality = str(header.get("Modality") or "").strip()
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


def _require_gray(header: pydicom.Dataset) -> None:
    lacking = [name for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
               if not header.get(name)]  # fmt: skip
    if lacking:
        raise ImageError(f"its header lacks {', '.join(lacking)}")
    photometric = header.PhotometricInterpretation
    if header.SamplesPerPixel != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"a colour image ({photometric}), not a gray one")
    if header.BitsAllocated not in (8, 16) or not 0 < header.BitsStored <= header.BitsAllocated:
        raise ImageError(f"{header.BitsStored} of {header.BitsAllocated} bits a pixel are not supported (8, 16 are)")


def _require_size(header: pydicom.Dataset) -> None:
    frames, height, width = int(header.get("NumberOfFrames") or 1), header.Rows, header.Columns
    if frames != 1:
        raise ImageError(f"holds {frames} frames; a radiograph has one")
    if height * width > MAX_PIXELS:
        raise ImageError(f"too large: {width} x {height} is over {MAX_PIXELS // 1_000_000} megapixels")


def _require_syntax(header: pydicom.Dataset) -> None:
    syntax = header.file_meta.TransferSyntaxUID
    if syntax not in DECODED:
        raise ImageError(f"{syntax.name} ({syntax}) {CONVERT}")
    if syntax in JPEG and header.BitsAllocated != 8:
        raise ImageError(f"{syntax.name} ({syntax}) of {header.BitsStored} bits {CONVERT}")


def stored_values(header: pydicom.Dataset, least: int | None = None) -> np.ndarray:
    """Pixels as stored, uint8 or uint16 [height, width], neither sign nor unused bits seen to.

    With `least`, a JPEG may come out smaller by 2, 4 or 8, its longer side still >= `least`.
    """
    syntax = header.file_meta.TransferSyntaxUID
    with explained("its pixel data cannot be decoded"):
        if syntax in JPEG:
            return _decode_jpeg(header, least)
        if syntax in NATIVE:
            _require_whole(header)
        plugin = "" if syntax in NATIVE else "pylibjpeg"
        options = {"raw": True, "view_only": True, "correct_unused_bits": False, "decoding_plugin": plugin}
        values, _ = get_decoder(syntax).as_array(header, index=0, **options)
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return native.view(f"u{native.dtype.itemsize}")


def _require_whole(header: pydicom.Dataset) -> None:
    needed, found = header.Rows * header.Columns * header.BitsAllocated // 8, len(header.PixelData)
    if found < needed:
        raise ImageError(f"its pixel data is cut short: {found} of {needed} bytes")


def _decode_jpeg(header: pydicom.Dataset, least: int | None) -> np.ndarray:
    """Where less is wanted, the inverse DCT averages: .2 gray levels from a full decode's area average."""
    height, width = header.Rows, header.Columns
    image = Image.open(io.BytesIO(get_frame(header.PixelData, 0, number_of_frames=1)))
    if image.format != "JPEG" or image.mode != "L" or image.size != (width, height):
        found = f"{image.format} {image.mode} of {image.size[0]} x {image.size[1]}"
        raise ImageError(f"its frame is {found}, but the header says JPEG, gray, {width} x {height}")
    shrink = _shrinkage(height, width, least)
    if shrink > 1:
        image.draft("L", (width // shrink, height // shrink))
    return np.asarray(image)


def _shrinkage(height: int, width: int, least: int | None) -> int:
    """The largest of 8, 4, 2, 1 that divides both sides and leaves `least` pixels along the longer one."""
    fits = (n for n in (8, 4, 2) if least and height % n == width % n == 0 and max(height, width) // n >= least)
    return next(fits, 1)
