"""Lookup tables of a DICOM header: PS3.3 C.11.1.1.1 (modality) and C.11.2.1.1 (VOI), and what writers make of them."""

from typing import NamedTuple

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from cxr.imaging.refusal import ImageError


class Lut(NamedTuple):
    """A lookup table; first_mapped: the value mapped to entry 0; entries: int64 [n]; bits: of an entry, as declared."""

    first_mapped: int
    bits: int
    entries: np.ndarray

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """The entry of each value, as float; what lies outside takes the first or the last."""
        entry_indices = np.clip(np.rint(values) - self.first_mapped, 0, len(self.entries) - 1)
        return self.entries[entry_indices.astype(np.int64)].astype(float)

    @property
    def white_level(self) -> int:
        """The output that counts as white: the largest entry, where entries do not take the bits that are declared.

        Agfa's CR declares 16 bits for entries up to 4095; other viewers scale them by the largest, too.
        """
        largest = int(self.entries.max())
        return (1 << self.bits) - 1 if largest.bit_length() == self.bits else max(largest, 1)


def read_lut(item: Dataset, is_signed: bool, is_big_endian: bool) -> Lut:
    """The table of a sequence's item.

    is_signed: whether its input can be below 0; is_big_endian: the file's byte order.
    Raises ImageError, or what pydicom raises, where it is damaged.
    """
    words = _read_words(item["LUTDescriptor"], is_big_endian)
    if len(words) != 3 or not 8 <= words[2] <= 16:
        raise ImageError("the descriptor of its lookup table is damaged")
    count, first_mapped, bits = int(words[0]) or 1 << 16, int(words[1]), int(words[2])
    if first_mapped >= 1 << 15 and (is_signed or item["LUTDescriptor"].VR == "SS"):
        first_mapped -= 1 << 16
    return Lut(first_mapped, bits, _read_entries(item["LUTData"], count, is_big_endian))


def _read_words(element: DataElement, is_big_endian: bool) -> np.ndarray:
    """16-bit words of an element, int64: implicit files leave them as bytes."""
    if isinstance(element.value, bytes):
        return np.frombuffer(element.value, ">u2" if is_big_endian else "<u2").astype(np.int64)
    return np.atleast_1d(np.array(element.value, np.int64)) & 0xFFFF


def _read_entries(element: DataElement, count: int, is_big_endian: bool) -> np.ndarray:
    """Entries, int64 [count]: a word each, or (C.11.1.1.1) packed, two in a word, the first in its lower byte."""
    words = _read_words(element, is_big_endian)
    if len(words) == count:
        return words
    data = element.value if element.VR == "OB" else words.astype("<u2").tobytes()
    if len(data) in (count, count + count % 2):
        return np.frombuffer(data, np.uint8)[:count].astype(np.int64)
    raise ImageError(f"its lookup table has {len(data)} bytes for {count} entries")
