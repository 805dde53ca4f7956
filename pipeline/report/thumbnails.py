"""Small pictures of one image: the hand-drawn mask, the predicted one, and where the classifiers look."""

import cv2
import numpy as np

from cxr.imaging.geometry import resize_image
from pipeline.pictures.figure import ORANGE, SKY, YELLOW
from pipeline.pictures.image_record import MASK_STACK, ImageRecord, compute_final_prob_map
from pipeline.report.blocks import Picture, embed_jpeg

THUMBNAIL_SIDE = 256
LEGEND = "Yellow line: drawn by hand; blue: the final mask; orange: the chest box. Bright in the maps: high."


def draw_thumbnails(record: ImageRecord, cams: list[np.ndarray]) -> list[tuple[str, Picture]]:
    """Caption and picture of each that there is: the image, its final mask, the map behind it, the mean Grad-CAM.

    cams: uint8 [s, s] of each classifier, full frame.
    """
    gray = _resize_canvas(record)
    captioned_images = [(f"truth{' and box' if record.box else ''}", _draw_box(gray, record))]
    if record.final_mask is not None:
        caption = "final mask" if record.final_mask.any() else "final mask: empty"
        captioned_images.append((caption, _tint_mask(gray, record.final_mask)))
    if record.prob_maps:
        heat = compute_final_prob_map(record)
        map_name = MASK_STACK if MASK_STACK in record.prob_maps else f"mean map of {len(record.prob_maps)}"
        captioned_images.append((f"{map_name}, highest {heat.max():.2f}", _overlay_heatmap(gray, heat)))
    if cams:
        mean_cam = np.mean([cam / 255 for cam in cams], axis=0)
        heatmap = _overlay_heatmap(gray, mean_cam / max(mean_cam.max(), 1e-9))
        captioned_images.append((f"Grad-CAM, mean of {len(cams)}", heatmap))
    return [
        (caption, embed_jpeg(_outline_truth(image, record), f"{record.image_id}: {caption}"))
        for caption, image in captioned_images
    ]


def _resize_canvas(record: ImageRecord) -> np.ndarray:
    return np.repeat(resize_image(record.canvas, THUMBNAIL_SIDE, THUMBNAIL_SIDE)[..., None], 3, axis=2)


def _hex_to_rgb(colour: str) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(colour[1:]))


def _draw_box(image: np.ndarray, record: ImageRecord) -> np.ndarray:
    if record.box is None:
        return image
    box = record.box.scale_and_shift(THUMBNAIL_SIDE / record.canvas.shape[0])
    xmin, ymin, xmax, ymax = (round(edge) for edge in box)
    return cv2.rectangle(image.copy(), (xmin, ymin), (xmax - 1, ymax - 1), _hex_to_rgb(ORANGE), 1)


def _outline_truth(image: np.ndarray, record: ImageRecord) -> np.ndarray:
    if record.truth_mask is None or not record.truth_mask.any():
        return image
    mask = (
        resize_image(record.truth_mask.astype(np.uint8) * 255, THUMBNAIL_SIDE, THUMBNAIL_SIDE) > 63
    )  # keeps small ones
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), lines, -1, _hex_to_rgb(YELLOW), 1)


def _tint_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    strength = resize_image(mask.astype(np.float32), THUMBNAIL_SIDE, THUMBNAIL_SIDE)[..., None] * 0.6
    return (image * (1 - strength) + np.array(_hex_to_rgb(SKY)) * strength).astype(np.uint8)


def _overlay_heatmap(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image under a heatmap; heat: [s, s] of 0 to 1."""
    from matplotlib import colormaps

    heat = resize_image(heat.astype(np.float32), THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    strength = np.clip(1.5 * heat, 0, 0.7)[..., None]
    return (image * (1 - strength) + 255 * colormaps["inferno"](heat)[..., :3] * strength).astype(np.uint8)
