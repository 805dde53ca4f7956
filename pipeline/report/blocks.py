"""What a page is made of: chapters of paragraphs, tables, pictures, cards and folded texts."""

import base64
import io
from dataclasses import dataclass, field
from typing import ClassVar

from evaluation.metrics import format_metric

DPI = 110  # of what is drawn as pixels
CSS_PIXELS_PER_INCH = 96  # CSS pixels


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
    """Texts; the first column names the row."""

    kind: ClassVar[str] = "table"
    header: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """One image: what is said of it, and its thumbnails with their captions."""

    title: str
    lines: list[str]
    pictures: list[tuple[str, Picture]]


@dataclass(frozen=True)
class Gallery:
    """Images that are examples of one thing."""

    kind: ClassVar[str] = "gallery"
    title: str
    note: str
    cards: list[Card]


@dataclass(frozen=True)
class FoldedBlock:
    """What is opened by a click: other blocks, or a text as it stands."""

    kind: ClassVar[str] = "folded"
    title: str
    blocks: list = field(default_factory=list)
    text: str = ""
    open: bool = False


@dataclass(frozen=True)
class PictureRow:
    """Pictures side by side where there is room."""

    kind: ClassVar[str] = "row"
    pictures: list[Picture]


@dataclass(frozen=True)
class Chapter:
    """A part of the page with its entry in the table of contents. A block that is a string is a paragraph."""

    id: str
    title: str
    blocks: list


def embed_svg(figure, alt: str, wide: bool = False) -> Picture:
    """A matplotlib figure as SVG; what it marks as rasterized (clouds of points) is pixels."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": alt}):  # else the same figure has other ids each time
        figure.savefig(stream, format="svg", dpi=DPI, metadata={"Date": None})
    return Picture(_data_url("svg+xml", stream), alt, round(figure.get_figwidth() * CSS_PIXELS_PER_INCH), wide)


def embed_jpeg(pixels, alt: str) -> Picture:
    """uint8 [height, width, 3] as JPEG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80, subsampling=0, optimize=True)  # thin lines keep colour
    return Picture(_data_url("jpeg", stream), alt, pixels.shape[1])


def _data_url(kind: str, stream: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def format_with_interval(estimate: dict | None, digits: int = 3) -> str:
    """A metric for a table: '.873 (.850 to .894)', in one line; without an interval where it has none."""
    if estimate is None or estimate["value"] is None:
        return "–"
    value = format_metric(estimate["value"], digits)
    if estimate["low"] is None:
        return value
    interval = f"{value} ({format_metric(estimate['low'], digits)} to {format_metric(estimate['high'], digits)})"
    return interval.replace(" ", "\N{NO-BREAK SPACE}")
