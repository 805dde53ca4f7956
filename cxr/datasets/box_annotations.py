"""One box as an annotation file gives it, and how it comes into the pixels of the original radiograph."""

from dataclasses import dataclass

from cxr.errors import DataError
from cxr.imaging.geometry import Box, Letterbox

MIN_INSIDE_SHARE = 0.75  # of a box's area: annotators overshoot the edge a little, boxes of another image size do not


@dataclass(frozen=True)
class BoxAnnotation:
    """One box as its file gives it."""

    image_name: str
    """Of the image, as the file spells it."""
    location: str
    """File and row, for messages."""
    box: Box | None = None
    """None where there is no region."""
    size: tuple[float, float] | None = None
    """Width and height of the picture that it was drawn on, where the file tells; else it is the original."""
    letterbox: Letterbox | None = None
    """How the original lies on that picture, where our own export wrote it."""
    category: str = ""
    is_chest: bool = True
    is_detected: bool = False
    """Written by the published detector; its box of the whole frame means that it found nothing."""
    fault: str = ""
    """Why it cannot be read."""

    def box_in_original(self, width: int, height: int) -> Box:
        """The box in the pixels of an original of `width` x `height`, clipped to it; DataError where it cannot be."""
        box = self._scale_to_original(width, height)
        clipped_box = box.clip_to_frame(width, height)
        if clipped_box.width <= 0 or clipped_box.height <= 0 or clipped_box.area < MIN_INSIDE_SHARE * box.area:
            excess_note = ", more than a quarter of it" if clipped_box.area > 0 else ""
            raise DataError(
                f"{self.location}: the box lies outside its image of {width} x {height} pixels{excess_note}"
            )
        return clipped_box

    def _scale_to_original(self, width: int, height: int) -> Box:
        if self.size is None:
            return self.box
        letterbox = self.letterbox
        if letterbox and (letterbox.height, letterbox.width) == (height, width):
            return letterbox.box_to_original(self.box.scale_and_shift(letterbox.size / self.size[0]))
        if not letterbox and _has_same_shape(self.size, (width, height)):
            factors = (width / self.size[0], height / self.size[1]) * 2
            return Box(*(edge * factor for edge, factor in zip(self.box, factors, strict=True)))
        drawn_size = "{:g} x {:g}".format(*((letterbox.width, letterbox.height) if letterbox else self.size))
        raise DataError(
            f"{self.location}: the image has {drawn_size} pixels there, its original {width} x {height}, which is "
            "another shape; give boxes in the original's pixels, without the image's size"
        )


def _has_same_shape(size: tuple[float, float], original_size: tuple[int, int]) -> bool:
    """Whether two (width, height) differ by their scale alone, within the smaller one's rounding."""
    (w, h), (width, height) = sorted((size, original_size))
    return abs(w * height / width - h) <= 1 or abs(h * width / height - w) <= 1
