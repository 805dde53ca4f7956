"""What a page is made of: chapters of paragraphs, tables, pictures, galleries and folded texts."""

import base64
import io
from dataclasses import dataclass, field
from typing import ClassVar

from evaluation.metrics import format_metric

DPI = 110  # of the parts of an SVG that are drawn as pixels
CSS_PIXELS_PER_INCH = 96  # fixed by CSS


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    kind: ClassVar[str] = "picture"
    source: str
    """A data URL."""
    alt: str
    width: int
    """CSS pixels; a narrower screen shrinks it, unless it is `wide`."""
    wide: bool = False
    """Keeps its size, and scrolls in a box of its own."""


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column names the row."""

    kind: ClassVar[str] = "table"
    header: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """One image: lines of text, and its thumbnails with their captions."""

    title: str
    lines: list[str]
    pictures: list[tuple[str, Picture]]


@dataclass(frozen=True)
class Gallery:
    """Images that are examples of one kind."""

    kind: ClassVar[str] = "gallery"
    title: str
    note: str
    cards: list[Card]


@dataclass(frozen=True)
class FoldedBlock:
    """Opened by a click: other blocks, or preformatted text."""

    kind: ClassVar[str] = "folded"
    title: str
    blocks: list = field(default_factory=list)
    text: str = ""
    open: bool = False


@dataclass(frozen=True)
class PictureRow:
    """Pictures side by side, as far as the screen is wide enough."""

    kind: ClassVar[str] = "row"
    pictures: list[Picture]


@dataclass(frozen=True)
class Chapter:
    """A part of the page with its entry in the table of contents. A block that is a string is a paragraph."""

    id: str
    title: str
    blocks: list


def embed_svg(figure, alt: str, wide: bool = False) -> Picture:
    """A matplotlib figure as SVG; its rasterized artists (clouds of points) become pixels. alt: text instead of it."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": alt}):  # else ids are random, and the same figure differs each time
        figure.savefig(stream, format="svg", dpi=DPI, metadata={"Date": None})
    return Picture(_data_url("svg+xml", stream), alt, round(figure.get_figwidth() * CSS_PIXELS_PER_INCH), wide)


def embed_jpeg(pixels, alt: str) -> Picture:
    """An RGB image, uint8 [height, width, 3], as JPEG. alt: text instead of it."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(
        stream, "JPEG", quality=80, subsampling=0, optimize=True
    )  # full chroma keeps the colour of thin lines
    return Picture(_data_url("jpeg", stream), alt, pixels.shape[1])


def _data_url(kind: str, stream: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def format_with_interval(estimate: dict | None, digits: int = 3) -> str:
    """A metric for a table: '.873 (.850 to .894)', in one line.

    estimate: value, low and high; None or a value of None gives a dash, low of None the value alone
    """
    if estimate is None or estimate["value"] is None:
        return "–"
    value = format_metric(estimate["value"], digits)
    if estimate["low"] is None:
        return value
    interval = f"{value} ({format_metric(estimate['low'], digits)} to {format_metric(estimate['high'], digits)})"
    return interval.replace(" ", "\N{NO-BREAK SPACE}")
