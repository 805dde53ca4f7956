"""All that a run knows of one image, read from the files of every stage; what is not there yet is noted."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cxr import tables
from cxr.datasets import box_table, image_ids, kaggle
from cxr.datasets.prepared import Prepared
from cxr.files import read_json
from cxr.imaging import rle
from cxr.imaging.geometry import Box, Letterbox, resize_image
from cxr.paths import Paths
from cxr.recipe import Recipe
from stage3_stack.config import map_folder, read_stack_settings, refuse_renamed_keys, stacked_map_folder

MASK_STACK = "mask stack"


@dataclass
class ImageRecord:
    """One image on the prepared canvas, with what each stage says of it."""

    image_id: str
    split: str
    fold: int | None
    """The fold that it is held out in; none where it is not a labelled training image."""
    canvas: np.ndarray
    letterbox: Letterbox
    """Of the original, on the canvas."""
    truth_mask: np.ndarray | None = None
    """Mask on the canvas, bool; None where nobody knows it."""
    box: Box | None = None
    box_note: str = ""
    probs: dict[str, float] = field(default_factory=dict)
    stacked_prob: float | None = None
    probability_threshold: float | None = None
    prob_maps: dict[str, np.ndarray] = field(default_factory=dict)
    """Probability 0..255 of each segmenter and of the mask stack, at its own size."""
    label_head_probs: list[float] = field(default_factory=list)
    """Probability of a pneumothorax by the segmenters' own label heads, of those that have one."""
    final_mask: np.ndarray | None = None
    """Mask on the canvas, bool."""
    missing_outputs: list[str] = field(default_factory=list)


def gather_image_record(image_id: str, recipe: Recipe, paths: Paths) -> ImageRecord:
    """Read everything there is of an image."""
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    row = prepared.manifest.loc[image_id]
    fold = int(prepared.folds.at[image_id, "fold"]) if image_id in prepared.folds.index else None
    record = ImageRecord(image_id, row["split"], fold, prepared.read_image(image_id), prepared.get_letterbox(image_id))
    record.truth_mask = _load_truth_mask(record, prepared, paths)
    _add_box(record, prepared, paths)
    _add_probabilities(record, recipe, paths)
    _add_maps(record, recipe, paths)
    _add_final_mask(record, prepared, paths)
    return record


def _load_truth_mask(record: ImageRecord, prepared: Prepared, paths: Paths) -> np.ndarray | None:
    """The hand-drawn mask; of a phantoms' test image from the truth that is kept apart."""
    if record.split == "train":
        return prepared.read_mask(record.image_id).astype(bool)
    path = next(
        (csv_path for pattern in ("", "*/") for csv_path in paths.data_folder.glob(f"{pattern}test-truth.csv")), None
    )
    codes = _read_rle_codes(path, record.image_id) if path else []
    return _decode_on_canvas(codes, record.image_id, prepared) if codes else None


def _read_rle_codes(path: Path, image_id: str) -> list[str]:
    """The run-length codes of an image in a table of the Kaggle form."""
    return [row.code for row in kaggle.read_mask_rows(path).get(image_id, [])]


def _decode_on_canvas(codes: list[str], image_id: str, prepared: Prepared) -> np.ndarray:
    letterbox = prepared.get_letterbox(image_id)
    mask = rle.decode_union(codes, letterbox.height, letterbox.width)
    return letterbox.image_to_canvas(mask.astype(np.uint8) * 255) > 127


def _add_box(record: ImageRecord, prepared: Prepared, paths: Paths) -> None:
    table = box_table.read_boxes_table(paths.boxes_csv) if paths.boxes_csv.is_file() else None
    image_boxes = None if table is None else table[table["Filename"].map(image_ids.parse_image_id) == record.image_id]
    if image_boxes is None or image_boxes.empty:
        record.missing_outputs.append("box (stage 0)")
        return
    row = image_boxes.iloc[0]
    record.box = prepared.get_letterbox(record.image_id).box_to_canvas(Box(row.xmin, row.ymin, row.xmax, row.ymax))
    record.box_note = f"{row.source}, score {row.score:.2f}"


def _add_probabilities(record: ImageRecord, recipe: Recipe, paths: Paths) -> None:
    """Of a held-out image the one model that did not see it; of others every fold's."""
    for member in recipe.stage1:
        for fold in recipe.folds_to_train:
            path = paths.fold_folder(1, member, fold) / "predictions.parquet"
            row = _read_image_row(path, tables.PREDICTIONS, record.image_id)
            if row is not None:
                record.probs[f"{member} fold {fold}"] = float(row["prob"])
            elif not path.is_file():
                record.missing_outputs.append(f"{member} fold {fold}")
    row = _read_image_row(paths.stage3_folder / "stacked.parquet", tables.STACKED, record.image_id)
    if row is None:
        record.missing_outputs.append("stacked probability (stage 3)")
    else:
        record.stacked_prob = float(row["prob"])


def _read_image_row(path: Path, schema: tables.Schema, image_id: str) -> pd.Series | None:
    if not path.is_file():
        return None
    table = tables.read_table(path, schema, "").set_index("image_id", drop=False)
    return table.loc[image_id] if image_id in table.index else None


def _add_maps(record: ImageRecord, recipe: Recipe, paths: Paths) -> None:
    if record.split != "test" and record.fold not in recipe.folds_to_train:
        record.missing_outputs.append("maps (only held-out and test images have some)")
        return
    fold = None if record.split == "test" else record.fold
    folders = {member: map_folder(paths, member, fold) for member in recipe.stage2}
    if recipe.stage2 and read_stack_settings(recipe).masks == "stacker":
        folders[MASK_STACK] = stacked_map_folder(paths)
    for member, folder in folders.items():
        row = _read_image_row(folder / "index.parquet", tables.MAP_INDEX, record.image_id)
        if row is None or not (folder / "maps.npy").is_file():
            record.missing_outputs.append(f"map of {member}")
            continue
        record.prob_maps[member] = np.array(np.load(folder / "maps.npy", mmap_mode="r")[row["row"]])
        record.label_head_probs += [float(row["prob"])] if np.isfinite(row["prob"]) else []


def _add_final_mask(record: ImageRecord, prepared: Prepared, paths: Paths) -> None:
    """Of a test image what was submitted; of a held-out one what the decision of its fold makes of the maps."""
    decision = _select_decision(record, prepared, paths)
    record.probability_threshold = decision and decision["probability_threshold"]
    if record.split == "test" and paths.submission_csv.is_file():
        record.final_mask = _decode_on_canvas(
            _read_rle_codes(paths.submission_csv, record.image_id), record.image_id, prepared
        )
    elif record.split == "train" and decision and record.stacked_prob is not None and record.prob_maps:
        record.final_mask = postprocess_mask(record, decision)
    else:
        record.missing_outputs.append("final mask (stage 3)")


def _select_decision(record: ImageRecord, prepared: Prepared, paths: Paths) -> dict | None:
    """The decision that an image is judged by: of its own fold (or subfold) where it is held out, else the test's."""
    decision = _find_decision(record, prepared, read_json(paths.stage3_folder / "decision.json") or {})
    refuse_renamed_keys(paths.stage3_folder / "decision.json", decision)
    return decision


def _find_decision(record: ImageRecord, prepared: Prepared, decisions: dict) -> dict | None:
    if record.split != "train":
        return decisions.get("test")
    held_out = decisions.get("held_out", {})
    group_key = (
        prepared.folds.at[record.image_id, held_out.get("nested_by", "fold")] if record.fold is not None else None
    )
    return held_out.get(str(group_key))


def postprocess_mask(record: ImageRecord, decision: dict) -> np.ndarray:
    """The final mask on the canvas, by decision.json's own words, made in the original's pixels."""
    level_map = np.rint(compute_final_prob_map(record) * 255).astype(np.uint8)
    letterbox = record.letterbox
    full_map, pixel_count = letterbox.image_to_original(level_map), letterbox.height * letterbox.width
    top_pixel_count = (full_map > score_to_level(decision["top_score_threshold"])).sum()
    area = top_pixel_count * decision["reference_size"] ** 2 / pixel_count  # of an image of that side
    passes_thresholds = record.stacked_prob >= decision["probability_threshold"] and (
        not record.label_head_probs or np.mean(record.label_head_probs) >= decision["label_head_threshold"]
    )
    if area < decision["min_area"] or not passes_thresholds:
        return np.zeros_like(record.canvas, bool)
    min_component_area = (
        decision["min_component_area"] * letterbox.content_box(len(level_map)).area / decision["reference_size"] ** 2
    )
    bottom_level = score_to_level(decision["bottom_score_threshold"])
    is_dropped = _find_small_components(level_map > bottom_level, min_component_area)
    level_map = np.where(is_dropped, 0, level_map).astype(np.uint8)
    return letterbox.image_to_canvas((letterbox.image_to_original(level_map) > bottom_level) * np.uint8(255)) > 127


def score_to_level(score: float) -> int:
    """The 8-bit level that a pixel must exceed for its probability to exceed `score`."""
    return int(np.floor(score * 255 + 1e-9))


def compute_final_prob_map(record: ImageRecord) -> np.ndarray:
    """The map that the final mask comes from, float of 0..1: the mask stack's, or the segmenters' mean."""
    prob_maps = [record.prob_maps[MASK_STACK]] if MASK_STACK in record.prob_maps else list(record.prob_maps.values())
    size = max(prob_map.shape[0] for prob_map in prob_maps)
    return (
        np.rint(np.mean([resize_image(prob_map, size, size) for prob_map in prob_maps], axis=0, dtype=np.float32)) / 255
    )


def _find_small_components(mask: np.ndarray, min_area: float) -> np.ndarray:
    """The mask's connected parts of fewer than `min_area` pixels."""
    _, components, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return mask & (stats[:, cv2.CC_STAT_AREA] < min_area)[components]
