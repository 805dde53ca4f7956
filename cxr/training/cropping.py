"""What part of the canvas a network sees: the chest box or the whole frame, jittered in training."""

import zlib
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from cxr.config import StrictModel
from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box


class View(StrictModel):
    """The part of an image that a member sees, and the square it is stretched to."""

    size: int = Field(ge=32, multiple_of=32)
    crop: Literal["box", "full"]
    """At inference, deterministic: the found chest box, or the whole frame."""
    box_share: float = Field(default=1.0, ge=0, le=1)
    """crop: box, in training: the share of samples cut to the box; the others fall to random crops or the frame."""
    random_share: float = Field(default=0.0, ge=0, le=1)
    """In training: of the samples not cut to the box, the share cut to a random rectangle."""
    random_low: float = 0.73
    random_high: float = 0.93
    """Sides of the random rectangle as shares of the frame (the rank-47 solution: 749 x 949 of 1024)."""
    jitter: float = 0.0
    """In training: each edge of the box moves by up to this share of the box's extent."""
    frame: int | None = Field(default=None, ge=32, multiple_of=32)
    """Inference sees its part stretched to this side; training sees random squares of `size` out of it."""

    @model_validator(mode="after")
    def _check_frame_size(self) -> "View":
        if self.frame is not None and self.frame < self.size:
            raise ValueError(f"frame: training sees squares of {self.size} (size) out of it, so at least {self.size}")
        return self

    @property
    def inference_size(self) -> int:
        """Side of what inference sees."""
        return self.frame or self.size

    def scale_sides(self, factor: float) -> "View":
        """The view with other sides, in steps of 32."""
        sides = {"size": self.size, "frame": self.frame}
        return self.model_copy(update={k: v and max(32, 32 * round(v * factor / 32)) for k, v in sides.items()})


def keyed_rng(*parts: int | str) -> np.random.Generator:
    """Random numbers that depend on (seed, epoch, image_id) alone, so that a resumed run draws the same."""
    return np.random.default_rng([zlib.crc32(p.encode()) if isinstance(p, str) else p for p in parts])


def chest_box_on_canvas(view: View, prepared: Prepared, boxes: dict[str, Box], image_id: str) -> Box:
    """An image's chest box on the canvas; the whole canvas for a view that needs none.

    view: crop settings.
    prepared: the prepared data.
    boxes: chest boxes by image_id, in pixels of the originals.
    image_id: of the image.
    """
    if view.crop == "full":
        return Box(0, 0, prepared.size, prepared.size)
    return prepared.get_letterbox(image_id).box_to_canvas(boxes[image_id])


def inference_region(view: View, box: Box, canvas_size: int) -> Box:
    """What the member sees at inference, on a canvas of `canvas_size`."""
    return box.clip_to_frame(canvas_size, canvas_size) if view.crop == "box" else Box(0, 0, canvas_size, canvas_size)


def draw_training_region(view: View, box: Box, canvas_size: int, rng: np.random.Generator) -> Box:
    """What the member sees of one training sample, on a canvas of `canvas_size`; squares of a frame start at whole
    pixels.

    view: crop settings.
    box: chest box on the canvas, pixels.
    rng: random numbers, the only ones used.
    """
    region = _draw_crop(view, box, canvas_size, rng)
    if view.frame is None:
        return region
    share = min(view.size / view.frame, 1.0)
    x = round(region.xmin + rng.random() * (1 - share) * region.width)
    y = round(region.ymin + rng.random() * (1 - share) * region.height)
    return Box(x, y, x + share * region.width, y + share * region.height)


def _draw_crop(view: View, box: Box, canvas_size: int, rng: np.random.Generator) -> Box:
    if view.crop == "box" and rng.random() < view.box_share:
        shifts = rng.uniform(-view.jitter, view.jitter, 4) * np.array([box.width, box.height] * 2)
        return Box(*(np.array(box) + shifts)).clip_to_frame(canvas_size, canvas_size)
    if rng.random() < view.random_share:
        width, height = rng.uniform(view.random_low, view.random_high, 2) * canvas_size
        x, y = rng.uniform(0, canvas_size - width), rng.uniform(0, canvas_size - height)
        return Box(x, y, x + width, y + height)
    return Box(0, 0, canvas_size, canvas_size)
