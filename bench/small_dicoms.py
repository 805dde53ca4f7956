"""A small picture in every way that DICOM stores one, as parts whose bytes can be damaged; a library, no command."""

import io
import struct
import zlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import write_file_meta_info
from pydicom.sequence import Sequence

SIDE = 128
NAME = "SECRET^NAME"  # of the patient; it must not appear in any message
LONG_VRS = (b"OB", b"OW", b"SQ", b"UN", b"UT")


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file in parts."""

    name: str  # the kind of file
    meta: bytes  # preamble and file meta information
    body: bytes  # the data set, before it is deflated
    transfer_syntax: uid.UID

    @property
    def file_bytes(self) -> bytes:
        return self.meta + (deflate_bytes(self.body) if self.transfer_syntax.is_deflated else self.body)

    @property
    def byte_order(self) -> str:
        return "<" if self.transfer_syntax.is_little_endian else ">"

    @cached_property
    def element_offsets(self) -> dict[int, int]:
        """Tag -> offset of the element in an undamaged body."""
        starts, offset = {}, 0
        while offset < len(self.body):
            group, element = struct.unpack_from(f"{self.byte_order}HH", self.body, offset)
            starts[group << 16 | element] = offset
            start, length_format = self._length_field_at(offset)
            (length,) = struct.unpack_from(self.byte_order + length_format, self.body, start)
            offset = start + struct.calcsize(self.byte_order + length_format) + length
        return starts

    def find_element(self, tag: int) -> int:
        """Offset of an element in an undamaged body."""
        return self.element_offsets[tag]

    def find_length_field(self, tag: int) -> tuple[int, str]:
        """Offset of an element's length, and its format for `struct` (H or L)."""
        return self._length_field_at(self.find_element(tag))

    def _length_field_at(self, offset: int) -> tuple[int, str]:
        if self.transfer_syntax.is_implicit_VR:
            return offset + 4, "L"
        return (offset + 8, "L") if self.body[offset + 4 : offset + 6] in LONG_VRS else (offset + 6, "H")

    def with_bytes(self, offset: int, content: bytes) -> "DicomFile":
        """The file with other bytes from `offset` of the body on."""
        return replace(self, body=self.body[:offset] + content + self.body[offset + len(content) :])

    def with_value(self, tag: int, value: bytes) -> "DicomFile":
        """The file with another value of an element, of any length; cut at 65,534 bytes where its length has two."""
        offset, length_format = self.find_length_field(tag)
        end = offset + struct.calcsize(self.byte_order + length_format)
        (old_length,) = struct.unpack(self.byte_order + length_format, self.body[offset:end])
        value = (value + b" " * (len(value) % 2))[: 0xFFFE if length_format == "H" else None]
        length = struct.pack(self.byte_order + length_format, len(value))
        return replace(self, body=self.body[:offset] + length + value + self.body[end + old_length :])


def deflate_bytes(content: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(content) + packer.flush()
    return packed + bytes(len(packed) % 2)


def build_small_dicoms() -> list[DicomFile]:
    """One file of each kind."""
    y, x = np.mgrid[:SIDE, :SIDE]
    picture = 120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)
    pixels_12_bits, pixels_8_bits = (picture * 16).astype(np.uint16), picture.astype(np.uint8)
    compressed = {"jpeg": (uid.JPEGBaseline8Bit, pixels_8_bits), "jpeg 2000": (uid.JPEG2000Lossless, pixels_12_bits),
             "rle": (uid.RLELossless, pixels_12_bits)}  # fmt: skip
    native = {
        "8 bits": (uid.ExplicitVRLittleEndian, pixels_8_bits), "12 bits": (uid.ExplicitVRLittleEndian, pixels_12_bits),
        "16 bits, signed": (uid.ExplicitVRLittleEndian, pixels_12_bits.astype(np.int16) - 2000),
        "implicit": (uid.ImplicitVRLittleEndian, pixels_12_bits),
        "big-endian": (uid.ExplicitVRBigEndian, pixels_12_bits),
        "deflated": (uid.DeflatedExplicitVRLittleEndian, pixels_12_bits),
    }  # fmt: skip
    return [_build_file(name, syntax, pixels) for name, (syntax, pixels) in (native | compressed).items()]


def _build_file(name: str, syntax: uid.UID, pixels: np.ndarray) -> DicomFile:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3"
    header = _build_header(pixels, meta, syntax)
    meta_stream, body_stream = io.BytesIO(), io.BytesIO()
    write_file_meta_info(meta_stream, meta)
    dataset_syntax = (
        syntax if syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian) else uid.ExplicitVRLittleEndian
    )
    header.save_as(
        body_stream, implicit_vr=dataset_syntax.is_implicit_VR, little_endian=dataset_syntax.is_little_endian
    )
    return DicomFile(name, bytes(128) + b"DICM" + meta_stream.getvalue(), body_stream.getvalue(), syntax)


def _build_header(pixels: np.ndarray, meta: FileMetaDataset, syntax: uid.UID) -> Dataset:
    header, bits = Dataset(), pixels.dtype.itemsize * 8
    bits_stored = 12 if pixels.dtype == np.uint16 else bits
    values = {
        "SpecificCharacterSet": "ISO_IR 100", "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": "1.2.3",
        "Modality": "CR", "PatientName": NAME, "PatientID": NAME, "PatientSex": "F", "PatientAge": "045Y",
        "ViewPosition": "PA", "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME1", "Rows": SIDE,
        "Columns": SIDE, "BitsAllocated": bits, "BitsStored": bits_stored, "HighBit": bits_stored - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"), "PixelPaddingValue": 0, "WindowCenter": "1000",
        "WindowWidth": "3000", "RescaleIntercept": "0", "RescaleSlope": "1", "ImageComments": NAME * 50,
    }  # fmt: skip
    for name, value in values.items():
        setattr(header, name, value)
    header.VOILUTSequence = Sequence([_build_voi_lut(syntax)])
    header.PixelData = _encode_pixels(pixels, syntax)
    header["PixelData"].VR = "OW" if bits == 16 and not syntax.is_encapsulated else "OB"
    header["PixelData"].is_undefined_length = syntax.is_encapsulated
    return header


def _build_voi_lut(syntax: uid.UID) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", "OW", np.arange(4096, dtype=_word_dtype(syntax)).tobytes())
    return item


def _word_dtype(syntax: uid.UID) -> str:
    return ">u2" if syntax == uid.ExplicitVRBigEndian else "<u2"


def _encode_pixels(pixels: np.ndarray, syntax: uid.UID) -> bytes:
    if syntax == uid.JPEGBaseline8Bit:
        return encapsulate([_encode_by_pillow(pixels, "JPEG", quality=80)])
    if syntax == uid.JPEG2000Lossless:
        return encapsulate([_encode_by_pillow(pixels, "JPEG2000", irreversible=False, no_jp2=True)])
    if syntax == uid.RLELossless:
        return encapsulate([_encode_rle(pixels)])
    return pixels.astype(pixels.dtype.newbyteorder(_word_dtype(syntax)[0])).tobytes()


def _encode_by_pillow(pixels: np.ndarray, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name, **options)
    return buffer.getvalue()


def _encode_rle(pixels: np.ndarray) -> bytes:
    """DICOM RLE of literal runs only: a segment for the upper bytes, one for the lower (DICOM PS3.5, annex G)."""
    segments = []
    for plane in (pixels >> 8, pixels & 0xFF):
        rows = plane.astype(np.uint8)
        segments.append(b"".join(bytes([SIDE - 1]) + row.tobytes() for row in rows))
    offsets = [64, 64 + len(segments[0]), *[0] * 13]
    return struct.pack("<16L", 2, *offsets) + b"".join(segments)
