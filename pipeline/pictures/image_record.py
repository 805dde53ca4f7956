"""All that a run has on one image, from the files of every stage, with a list of what is missing."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from cxr.datasets import image_ids
from cxr.errors import UsageError
from cxr.imaging import rle
from cxr.imaging.geometry import Box, Letterbox, resize_image
from pipeline.run_files import RunFiles
from stage3_stack.config import map_folder, read_stack_settings, refuse_renamed_keys, stacked_map_folder

MASK_STACK = "mask stack"


@dataclass
class ImageRecord:
    """One image on the prepared canvas, with the outputs of each stage."""

    image_id: str
    split: str
    fold: int | None
    """The fold that it is held out in; None for an image that is not labelled."""
    canvas: np.ndarray
    letterbox: Letterbox
    """How the original lies on the canvas."""
    truth_mask: np.ndarray | None = None
    """Hand-drawn mask on the canvas, bool [size, size]; None where it is not known."""
    box: Box | None = None
    box_note: str = ""
    probs: dict[str, float] = field(default_factory=dict)
    """Probability by each classifier, under '<member> fold <n>'."""
    stacked_prob: float | None = None
    probability_threshold: float | None = None
    """The stacked probability from which on a mask is drawn."""
    prob_maps: dict[str, np.ndarray] = field(default_factory=dict)
    """Probability map of each segmenter and of the mask stack, uint8 of 0..255, each at its own size."""
    label_head_probs: list[float] = field(default_factory=list)
    """Probability of a pneumothorax by each segmenter that has a label head."""
    final_mask: np.ndarray | None = None
    """Mask on the canvas, bool [size, size]."""
    missing_outputs: list[str] = field(default_factory=list)
    """What the stages have not written yet, in words."""


def gather_image_record(image_id: str, run: RunFiles) -> ImageRecord:
    """Read all that the run's files hold of an image."""
    prepared = run.prepared
    split = prepared.manifest.at[image_id, "split"]
    fold = int(prepared.folds.at[image_id, "fold"]) if image_id in prepared.folds.index else None
    record = ImageRecord(image_id, split, fold, prepared.read_image(image_id), prepared.get_letterbox(image_id))
    record.truth_mask = _load_truth_mask(record, run)
    _add_box(record, run)
    _add_probabilities(record, run)
    _add_maps(record, run)
    _add_final_mask(record, run)
    return record


def _load_truth_mask(record: ImageRecord, run: RunFiles) -> np.ndarray | None:
    """The hand-drawn mask; for a test image of the phantoms, from test-truth.csv."""
    if record.split == "train":
        return run.prepared.read_mask(record.image_id).astype(bool)
    codes = run.read_test_truth_codes(record.image_id)
    return _decode_on_canvas(codes, record.letterbox) if codes else None


def _decode_on_canvas(codes: list[str], letterbox: Letterbox) -> np.ndarray:
    """The union of an image's run-length codes, bool on the canvas."""
    mask = rle.decode_union(codes, letterbox.height, letterbox.width)
    return letterbox.image_to_canvas(mask.astype(np.uint8) * 255) > 127


def _add_box(record: ImageRecord, run: RunFiles) -> None:
    table = run.chest_boxes if run.paths.boxes_csv.is_file() else None
    image_boxes = None if table is None else table[table["Filename"].map(image_ids.parse_image_id) == record.image_id]
    if image_boxes is None or image_boxes.empty:
        record.missing_outputs.append("box (stage 0)")
        return
    row = image_boxes.iloc[0]
    record.box = record.letterbox.box_to_canvas(Box(row.xmin, row.ymin, row.xmax, row.ymax))
    record.box_note = f"{row.source}, score {row.score:.2f}"


def _add_probabilities(record: ImageRecord, run: RunFiles) -> None:
    """The probability by the model that did not see a held-out image; by every fold's model for others."""
    for member in run.recipe.stage1:
        for fold in run.recipe.folds_to_train:
            predictions = run.read_predictions(member, fold)
            if predictions is None:
                record.missing_outputs.append(f"{member} fold {fold}")
            elif record.image_id in predictions.index:
                record.probs[f"{member} fold {fold}"] = float(predictions.at[record.image_id, "prob"])
    if run.stacked_table is None or record.image_id not in run.stacked_table.index:
        record.missing_outputs.append("stacked probability (stage 3)")
    else:
        record.stacked_prob = float(run.stacked_table.at[record.image_id, "prob"])


def _add_maps(record: ImageRecord, run: RunFiles) -> None:
    if record.split != "test" and record.fold not in run.recipe.folds_to_train:
        record.missing_outputs.append("maps (only held-out and test images have any)")
        return
    for name, folder in _list_map_folders(run, None if record.split == "test" else record.fold).items():
        if (map_and_prob := run.read_prob_map(folder, record.image_id)) is None:
            record.missing_outputs.append(f"map of {name}")
            continue
        record.prob_maps[name], label_head_prob = map_and_prob
        record.label_head_probs += [label_head_prob] if np.isfinite(label_head_prob) else []


def _list_map_folders(run: RunFiles, fold: int | None) -> dict[str, Path]:
    """Folders of the maps of a fold's held-out images or, with None, of the test images, by segmenter."""
    folders = {member: map_folder(run.paths, member, fold) for member in run.recipe.stage2}
    if run.recipe.stage2 and read_stack_settings(run.recipe).masks == "stacker":
        folders[MASK_STACK] = stacked_map_folder(run.paths)
    return folders


def _add_final_mask(record: ImageRecord, run: RunFiles) -> None:
    """The submitted mask of a test image; a held-out image's maps, postprocessed by its fold's decision."""
    decision = _select_decision(record, run)
    refuse_renamed_keys(run.paths.stage3_folder / "decision.json", decision)
    record.probability_threshold = decision and decision["probability_threshold"]
    submitted_codes = run.read_submitted_codes(record.image_id) if record.split == "test" else None
    if submitted_codes is not None:
        record.final_mask = _decode_on_canvas(submitted_codes, record.letterbox)
    elif record.split == "train" and decision and record.stacked_prob is not None and record.prob_maps:
        record.final_mask = postprocess_mask(record, decision)
    else:
        record.missing_outputs.append("final mask (stage 3)")


def _select_decision(record: ImageRecord, run: RunFiles) -> dict | None:
    """The thresholds for an image: its own fold's (or subfold's) if it is held out, else the test's; None without."""
    try:
        decisions = run.decision_record
    except UsageError:
        return None
    if record.split != "train":
        return decisions.get("test")
    held_out = decisions.get("held_out", {})
    nested_by = held_out.get("nested_by", "fold")
    if record.fold is None:
        return None
    return held_out.get(str(run.prepared.folds.at[record.image_id, nested_by]))


def postprocess_mask(record: ImageRecord, decision: dict) -> np.ndarray:
    """The final mask on the canvas, bool [size, size], computed at the original's size as stage 3 does it.

    decision: a set of parameters in decision.json, 'test' or one of 'held_out'; see stage3_stack.postprocessing
    """
    level_map = np.rint(compute_final_prob_map(record) * 255).astype(np.uint8)
    letterbox = record.letterbox
    full_map, pixel_count = letterbox.image_to_original(level_map), letterbox.height * letterbox.width
    top_pixel_count = (full_map > score_to_level(decision["top_score_threshold"])).sum()
    reference_area = decision["reference_size"] ** 2  # areas are in pixels of an image with that side
    top_area = top_pixel_count * reference_area / pixel_count
    if top_area < decision["min_area"] or not _passes_thresholds(record, decision):
        return np.zeros_like(record.canvas, bool)
    min_component_area = decision["min_component_area"] * letterbox.content_box(len(level_map)).area / reference_area
    bottom_level = score_to_level(decision["bottom_score_threshold"])
    is_dropped = _find_small_components(level_map > bottom_level, min_component_area)
    level_map = np.where(is_dropped, 0, level_map).astype(np.uint8)
    return letterbox.image_to_canvas((letterbox.image_to_original(level_map) > bottom_level) * np.uint8(255)) > 127


def _passes_thresholds(record: ImageRecord, decision: dict) -> bool:
    """Whether the stacked probability and that of the label heads, if there are any, reach their thresholds."""
    reaches_threshold = record.stacked_prob >= decision["probability_threshold"]
    return reaches_threshold and (
        not record.label_head_probs or np.mean(record.label_head_probs) >= decision["label_head_threshold"]
    )


def score_to_level(score: float) -> int:
    """The 8-bit level that a pixel must exceed for its probability to exceed `score`, 0 to 1."""
    return int(np.floor(score * 255 + 1e-9))


def compute_final_prob_map(record: ImageRecord) -> np.ndarray:
    """The map that the final mask is made from, float [s, s] of 0..1: the mask stack's, or the segmenters' mean."""
    prob_maps = [record.prob_maps[MASK_STACK]] if MASK_STACK in record.prob_maps else list(record.prob_maps.values())
    size = max(prob_map.shape[0] for prob_map in prob_maps)
    resized_maps = [resize_image(prob_map, size, size) for prob_map in prob_maps]
    return np.rint(np.mean(resized_maps, axis=0, dtype=np.float32)) / 255


def _find_small_components(mask: np.ndarray, min_area: float) -> np.ndarray:
    """The mask's connected parts of fewer than `min_area` pixels."""
    _, components, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return mask & (stats[:, cv2.CC_STAT_AREA] < min_area)[components]
