"""A small radiograph in every way that DICOM stores one, its elements open to edits that no writer would write."""

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
NAME = "SECRET^NAME"  # of the patient: in the header, and wherever a damage can put it
LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")


@dataclass(frozen=True)
class File:
    """A DICOM file in parts: its meta header, and all the rest, not yet deflated."""

    name: str
    meta: bytes
    body: bytes
    syntax: uid.UID

    @property
    def content(self) -> bytes:
        return self.meta + (deflate(self.body) if self.syntax.is_deflated else self.body)

    @property
    def order(self) -> str:
        return "<" if self.syntax.is_little_endian else ">"

    @cached_property
    def places(self) -> dict[int, int]:
        """Where each element of an undamaged body stands, at its tag."""
        starts, place = {}, 0
        while place < len(self.body):
            group, element = struct.unpack_from(f"{self.order}HH", self.body, place)
            starts[group << 16 | element] = place
            start, form = self._length_field(place)
            (length,) = struct.unpack_from(self.order + form, self.body, start)
            place = start + struct.calcsize(self.order + form) + length
        return starts

    def place(self, tag: int) -> int:
        """Where an element of an undamaged body stands, at its tag."""
        return self.places[tag]

    def length_field(self, tag: int) -> tuple[int, str]:
        """Where the element's length stands, and how it is packed."""
        return self._length_field(self.place(tag))

    def _length_field(self, place: int) -> tuple[int, str]:
        if self.syntax.is_implicit_VR:
            return place + 4, "L"
        return (place + 8, "L") if self.body[place + 4 : place + 6] in LONG else (place + 6, "H")

    def patched(self, place: int, content: bytes) -> "File":
        return replace(self, body=self.body[:place] + content + self.body[place + len(content) :])

    def with_value(self, tag: int, value: bytes) -> "File":
        """Another value of an element, of another length where need be; cut where its length has two bytes."""
        place, form = self.length_field(tag)
        end = place + struct.calcsize(self.order + form)
        (old,) = struct.unpack(self.order + form, self.body[place:end])
        value = (value + b" " * (len(value) % 2))[: 0xFFFE if form == "H" else None]
        length = struct.pack(self.order + form, len(value))
        return replace(self, body=self.body[:place] + length + value + self.body[end + old :])


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(content) + packer.flush()
    return packed + bytes(len(packed) % 2)


def files() -> list[File]:
    """One file of each kind."""
    y, x = np.mgrid[:SIDE, :SIDE]
    picture = 120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)
    deep, plain = (picture * 16).astype(np.uint16), picture.astype(np.uint8)
    coded = {"jpeg": (uid.JPEGBaseline8Bit, plain), "jpeg 2000": (uid.JPEG2000Lossless, deep),
             "rle": (uid.RLELossless, deep)}  # fmt: skip
    native = {
        "8 bits": (uid.ExplicitVRLittleEndian, plain), "12 bits": (uid.ExplicitVRLittleEndian, deep),
        "16 bits, signed": (uid.ExplicitVRLittleEndian, deep.astype(np.int16) - 2000),
        "implicit": (uid.ImplicitVRLittleEndian, deep), "big-endian": (uid.ExplicitVRBigEndian, deep),
        "deflated": (uid.DeflatedExplicitVRLittleEndian, deep),
    }  # fmt: skip
    return [_file(name, syntax, pixels) for name, (syntax, pixels) in (native | coded).items()]


def _file(name: str, syntax: uid.UID, pixels: np.ndarray) -> File:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3"
    header = _header(pixels, meta, syntax)
    start, rest = io.BytesIO(), io.BytesIO()
    write_file_meta_info(start, meta)
    plain = syntax if syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian) else uid.ExplicitVRLittleEndian
    header.save_as(rest, implicit_vr=plain.is_implicit_VR, little_endian=plain.is_little_endian)
    return File(name, bytes(128) + b"DICM" + start.getvalue(), rest.getvalue(), syntax)


def _header(pixels: np.ndarray, meta: FileMetaDataset, syntax: uid.UID) -> Dataset:
    header, bits = Dataset(), pixels.dtype.itemsize * 8
    stored = 12 if pixels.dtype == np.uint16 else bits
    values = {
        "SpecificCharacterSet": "ISO_IR 100", "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": "1.2.3",
        "Modality": "CR", "PatientName": NAME, "PatientID": NAME, "PatientSex": "F", "PatientAge": "045Y",
        "ViewPosition": "PA", "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME1", "Rows": SIDE,
        "Columns": SIDE, "BitsAllocated": bits, "BitsStored": stored, "HighBit": stored - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"), "PixelPaddingValue": 0, "WindowCenter": "1000",
        "WindowWidth": "3000", "RescaleIntercept": "0", "RescaleSlope": "1", "ImageComments": NAME * 50,
    }  # fmt: skip
    for name, value in values.items():
        setattr(header, name, value)
    header.VOILUTSequence = Sequence([_table(syntax)])
    header.PixelData = _pixel_data(pixels, syntax)
    header["PixelData"].VR = "OW" if bits == 16 and not syntax.is_encapsulated else "OB"
    header["PixelData"].is_undefined_length = syntax.is_encapsulated
    return header


def _table(syntax: uid.UID) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", "OW", np.arange(4096, dtype=_words(syntax)).tobytes())
    return item


def _words(syntax: uid.UID) -> str:
    return ">u2" if syntax == uid.ExplicitVRBigEndian else "<u2"


def _pixel_data(pixels: np.ndarray, syntax: uid.UID) -> bytes:
    if syntax == uid.JPEGBaseline8Bit:
        return encapsulate([_saved(pixels, "JPEG", quality=80)])
    if syntax == uid.JPEG2000Lossless:
        return encapsulate([_saved(pixels, "JPEG2000", irreversible=False, no_jp2=True)])
    if syntax == uid.RLELossless:
        return encapsulate([_rle(pixels)])
    return pixels.astype(pixels.dtype.newbyteorder(_words(syntax)[0])).tobytes()


def _saved(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def _rle(pixels: np.ndarray) -> bytes:
    """Literal runs alone: a segment for the upper bytes, one for the lower."""
    segments = []
    for plane in (pixels >> 8, pixels & 0xFF):
        rows = plane.astype(np.uint8)
        segments.append(b"".join(bytes([SIDE - 1]) + row.tobytes() for row in rows))
    offsets = [64, 64 + len(segments[0]), *[0] * 13]
    return struct.pack("<16L", 2, *offsets) + b"".join(segments)
