"""Read a DICOM file's elements, and never read or inflate more than a radiograph can hold.

A deflate bomb of 3 MB took 3 GB, and a file of a million empty elements a minute.
"""

import io
import os
import stat
import zlib
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr.imaging.refusal import ImageError

MAX_PIXELS = 100_000_000
MAX_BYTES = 2 * MAX_PIXELS + (32 << 20)  # 16 bits a pixel, and 32 MB for the rest of the header
LARGE_READ = 4096  # bytes of a read that is worth a look whether they are there
MAX_READS = 300_000  # an element takes one to three; radiographs have some hundred


class DeflatedDataset(Exception):
    """The rest of the file, from `offset` on, is deflated."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class BoundedStream:
    """A stream of `size` bytes that gives MAX_BYTES in MAX_READS at most, then raises ImageError.

    A length that runs past the end of the file reads up to the end; pydicom would allocate up to 4 GB.
    """

    def __init__(self, stream: io.IOBase, size: int) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read
        self._size, self._bytes_left, self._reads_left = size, MAX_BYTES, MAX_READS

    def read(self, count: int = -1) -> bytes:
        """`count` bytes, as far as there are.

        Raises DeflatedDataset where all the rest is asked for: pydicom inflates it.
        """
        if count < 0:
            raise DeflatedDataset(self.tell())
        if count > LARGE_READ:
            count = max(min(count, self._size - self.tell()), 0)
        self._bytes_left -= count
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            raise ImageError("it holds far more than a radiograph")
        return self._read(count)


def read_elements(path: Path, tags: list[BaseTag]) -> Dataset:
    """Some elements of a DICOM file, and its meta header. Raises ImageError, or what pydicom raises."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for its writer
        raise ImageError("not a regular file")
    with open(path, "rb") as stream:
        _require_dicom(stream)
        size = os.fstat(stream.fileno()).st_size
        try:
            return pydicom.dcmread(BoundedStream(stream, size), specific_tags=tags, force=True)
        except DeflatedDataset as deflated:
            stream.seek(deflated.offset)
            content = inflate_data(stream.read(MAX_BYTES))
            return _read_inflated_elements(content, tags)


def _require_dicom(stream: io.BufferedReader) -> None:
    start = stream.read(132)
    stream.seek(0)
    # Without a preamble, as older archives write: the file begins with group 0002 or 0008, in either byte order.
    lacks_preamble = start[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
    if not start:
        raise ImageError("the file is empty")
    if start[128:] != b"DICM" and not lacks_preamble:
        raise ImageError("not a DICOM file (it has no DICM prefix)")


def inflate_data(content: bytes) -> bytes:
    """A raw deflated stream, unpacked: MAX_BYTES at most, else ImageError."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked = inflater.decompress(content, MAX_BYTES + 1)
    if len(unpacked) > MAX_BYTES:
        raise ImageError(f"its deflated data grows to more than {MAX_BYTES >> 20} MB")
    if not inflater.eof:
        raise ImageError("its deflated data ends early")
    return unpacked


def _read_inflated_elements(content: bytes, tags: list[BaseTag]) -> Dataset:
    """PS3.5 A.5: in the deflated syntax all but the meta header is one deflated stream, explicit and little-endian."""
    stream = BoundedStream(io.BytesIO(content), len(content))
    header = read_dataset(stream, False, True, specific_tags=tags)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return header
