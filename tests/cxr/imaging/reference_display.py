"""From stored cells to gray levels, pixel by pixel, as PS3.3 C.7.6.3, C.11.1 and C.11.2 say: plain, slow, independent.

What the standard leaves open is chosen as `cxr.imaging.grayscale` documents it, and marked CHOICE here.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property


class Refused(Exception):
    """The standard forbids it, or nothing could be seen."""


@dataclass(frozen=True)
class Lut:
    """A lookup table; first: the value mapped to the first entry; bits: as the descriptor declares them."""

    first: int
    bits: int
    entries: tuple[int, ...]

    def __call__(self, value: float) -> int:
        """C.11.1.1.1, C.11.2.1.1: what lies outside takes the first or the last entry. CHOICE: the nearest whole."""
        return self.entries[min(max(round(value) - self.first, 0), len(self.entries) - 1)]

    @cached_property
    def white(self) -> int:
        """CHOICE: the largest entry, where the entries do not take the bits that are declared."""
        largest = max(self.entries)
        return 2**self.bits - 1 if largest.bit_length() == self.bits else max(largest, 1)


@dataclass(frozen=True)
class Radiograph:
    """Stored cells and what the header says of them; a table or window is None where it is not there."""

    cells: tuple[int, ...] = field(repr=False)
    allocated: int = 8
    stored: int = 8
    high: int = 7
    signed: bool = False
    monochrome1: bool = False
    padding: tuple[int, int] | None = None
    rescale: tuple[float, float] = (1, 0)
    modality: Lut | None = None
    window: tuple[float, float, str] | None = None
    voi: Lut | None = None


def display(image: Radiograph) -> list[float]:
    """Gray level of each cell, 0 (dark) to 255. Raises Refused."""
    if not image.stored - 1 <= image.high < image.allocated:  # PS3.5 8.1.1
        raise Refused("high bit")
    numbers = [number(image, cell) for cell in image.cells]
    tissue = [n for n in numbers if not is_padding(image, n)]
    if not tissue:
        raise Refused("nothing but padding")
    values = {n: modality(image, n) for n in tissue}
    if len(set(values.values())) == 1 < len(set(tissue)):
        raise Refused("modality leaves a single value")
    levels = shown(image, values)
    white = 255 if image.monochrome1 else 0  # C.7.6.3.1.2: MONOCHROME1 shows the lowest value as white
    return [0 if is_padding(image, n) else abs(white - levels[values[n]]) for n in numbers]


def number(image: Radiograph, cell: int) -> int:
    """PS3.5 8.1.1: the bits in use end at the high bit; a signed number is a two's complement."""
    bits = "".join(reversed(f"{cell:0{image.allocated}b}"))[: image.high + 1][-image.stored :]
    value = sum(2**k for k, bit in enumerate(bits) if bit == "1")
    return value - 2**image.stored if image.signed and bits[-1] == "1" else value


def is_padding(image: Radiograph, value: int) -> bool:
    """C.7.5.1.1.2: of stored values, both limits included. CHOICE: padding is as dark as air, however inverted."""
    return image.padding is not None and min(image.padding) <= value <= max(image.padding)


def modality(image: Radiograph, value: int) -> float:
    """C.11.1: the table, or slope and intercept."""
    slope, intercept = image.rescale
    return image.modality(value) if image.modality else value * slope + intercept


def shown(image: Radiograph, values: dict[int, float]) -> dict[float, float]:
    """Gray level of each modality value, not yet inverted.

    CHOICES: a VOI LUT goes before a window; without either, 8 bits unsigned with no modality are shown as they are,
    all else from minimum to maximum; what leaves less than a level of more than one value is passed over.
    """
    several = len(set(values.values())) > 1
    for levels in candidates(image, set(values.values())):
        if not several or max(levels.values()) - min(levels.values()) >= 1:
            return levels
    low, high = min(values.values()), max(values.values())
    return {x: (x - low) / ((high - low) or 1) * 255 for x in values.values()}


def candidates(image: Radiograph, values: set[float]):
    if image.voi:
        yield {x: image.voi(x) / image.voi.white * 255 for x in values}
    if image.window:
        yield {x: windowed(x, *image.window) for x in values}
    if (image.stored, image.signed, image.rescale, image.modality) == (8, False, (1, 0), None):
        yield {x: x for x in values}


def windowed(x: float, c: float, w: float, function: str) -> float:
    """C.11.2.1.2.1 LINEAR, C.11.2.1.3.1 SIGMOID, C.11.2.1.3.2 LINEAR_EXACT; y from 0 to 255."""
    if function == "SIGMOID":
        return 255 / (1 + math.exp(min(-4 * (x - c) / w, 700)))
    if function == "LINEAR":
        c, w = c - 0.5, w - 1
    if x <= c - w / 2:
        return 0
    return 255 if x > c + w / 2 else ((x - c) / w + 0.5) * 255
