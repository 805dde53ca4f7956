"""All that a run knows of one image, read from the files of every stage; what is not there yet is noted."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cxr import boxes, ids, kaggle, rle, tables
from cxr.files import read_json
from cxr.geometry import Box, Letterbox, resize
from cxr.paths import Paths
from cxr.prepared import Prepared
from cxr.recipe import Recipe
from stage3_stack.config import map_folder, read, stacked_maps

MASK_STACK = "mask stack"


@dataclass
class Known:
    """One image on the prepared canvas, with what each stage says of it."""

    image_id: str
    split: str
    fold: int | None
    """The fold that it is held out in; none where it is not a labelled training image."""
    canvas: np.ndarray
    letterbox: Letterbox
    """Of the original, on the canvas."""
    truth: np.ndarray | None = None
    """Mask on the canvas, bool; None where nobody knows it."""
    box: Box | None = None
    box_note: str = ""
    probs: dict[str, float] = field(default_factory=dict)
    stacked: float | None = None
    gate: float | None = None
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    """Probability 0..255 of each segmenter and of the mask stack, at its own size."""
    heads: list[float] = field(default_factory=list)
    """Probability of a pneumothorax by the segmenters' own label heads, of those that have one."""
    final: np.ndarray | None = None
    """Mask on the canvas, bool."""
    missing: list[str] = field(default_factory=list)


def gather(image_id: str, recipe: Recipe, paths: Paths) -> Known:
    """Read everything there is of an image."""
    prepared = Prepared(paths.prepared, paths.folds)
    row = prepared.manifest.loc[image_id]
    fold = int(prepared.folds.at[image_id, "fold"]) if image_id in prepared.folds.index else None
    known = Known(image_id, row["split"], fold, prepared.image(image_id), prepared.letterbox(image_id))
    known.truth = _truth(known, prepared, paths)
    _add_box(known, prepared, paths)
    _add_probabilities(known, recipe, paths)
    _add_maps(known, recipe, paths)
    _add_final(known, prepared, paths)
    return known


def _truth(known: Known, prepared: Prepared, paths: Paths) -> np.ndarray | None:
    """The hand-drawn mask; of a phantoms' test image from the truth that is kept apart."""
    if known.split == "train":
        return prepared.mask(known.image_id).astype(bool)
    path = next((p for pattern in ("", "*/") for p in paths.data.glob(f"{pattern}test-truth.csv")), None)
    codes = _codes(path, known.image_id) if path else []
    return _on_canvas(codes, known.image_id, prepared) if codes else None


def _codes(path: Path, image_id: str) -> list[str]:
    """The run-length codes of an image in a table of the Kaggle form."""
    return [row.code for row in kaggle.read_rows(path).get(image_id, [])]


def _on_canvas(codes: list[str], image_id: str, prepared: Prepared) -> np.ndarray:
    letterbox = prepared.letterbox(image_id)
    mask = rle.union(codes, letterbox.height, letterbox.width)
    return letterbox.apply(mask.astype(np.uint8) * 255) > 127


def _add_box(known: Known, prepared: Prepared, paths: Paths) -> None:
    table = boxes.read_table(paths.boxes) if paths.boxes.is_file() else None
    own = None if table is None else table[table["Filename"].map(ids.image_id) == known.image_id]
    if own is None or own.empty:
        known.missing.append("box (stage 0)")
        return
    row = own.iloc[0]
    known.box = prepared.letterbox(known.image_id).to_canvas(Box(row.xmin, row.ymin, row.xmax, row.ymax))
    known.box_note = f"{row.source}, score {row.score:.2f}"


def _add_probabilities(known: Known, recipe: Recipe, paths: Paths) -> None:
    """Of a held-out image the one model that did not see it; of others every fold's."""
    for member in recipe.stage1:
        for fold in recipe.trained:
            path = paths.unit(1, member, fold) / "predictions.parquet"
            row = _row(path, tables.PREDICTIONS, known.image_id)
            if row is not None:
                known.probs[f"{member} fold {fold}"] = float(row["prob"])
            elif not path.is_file():
                known.missing.append(f"{member} fold {fold}")
    row = _row(paths.stage3 / "stacked.parquet", tables.STACKED, known.image_id)
    if row is None:
        known.missing.append("stacked probability (stage 3)")
    else:
        known.stacked = float(row["prob"])


def _row(path: Path, schema: tables.Schema, image_id: str) -> pd.Series | None:
    if not path.is_file():
        return None
    table = tables.read(path, schema, "").set_index("image_id", drop=False)
    return table.loc[image_id] if image_id in table.index else None


def _add_maps(known: Known, recipe: Recipe, paths: Paths) -> None:
    if known.split != "test" and known.fold not in recipe.trained:
        known.missing.append("maps (only held-out and test images have some)")
        return
    fold = None if known.split == "test" else known.fold
    folders = {member: map_folder(paths, member, fold) for member in recipe.stage2}
    if recipe.stage2 and read(recipe).masks == "stacker":
        folders[MASK_STACK] = stacked_maps(paths)
    for member, folder in folders.items():
        row = _row(folder / "index.parquet", tables.MAP_INDEX, known.image_id)
        if row is None or not (folder / "maps.npy").is_file():
            known.missing.append(f"map of {member}")
            continue
        known.maps[member] = np.array(np.load(folder / "maps.npy", mmap_mode="r")[row["row"]])
        known.heads += [float(row["prob"])] if np.isfinite(row["prob"]) else []


def _add_final(known: Known, prepared: Prepared, paths: Paths) -> None:
    """Of a test image what was submitted; of a held-out one what the decision of its fold makes of the maps."""
    decision = _decision(known, prepared, paths)
    known.gate = decision and decision["gate"]
    if known.split == "test" and paths.submission.is_file():
        known.final = _on_canvas(_codes(paths.submission, known.image_id), known.image_id, prepared)
    elif known.split == "train" and decision and known.stacked is not None and known.maps:
        known.final = decided(known, decision)
    else:
        known.missing.append("final mask (stage 3)")


def _decision(known: Known, prepared: Prepared, paths: Paths) -> dict | None:
    """The decision that an image is judged by: of its own fold (or subfold) where it is held out, else the test's."""
    record = read_json(paths.stage3 / "decision.json") or {}
    if known.split != "train":
        return record.get("test")
    held_out = record.get("held_out", {})
    group = prepared.folds.at[known.image_id, held_out.get("nested_by", "fold")] if known.fold is not None else None
    return held_out.get(str(group))


def decided(known: Known, decision: dict) -> np.ndarray:
    """The final mask on the canvas, by decision.json's own words, made in the original's pixels."""
    found = np.rint(deciding(known) * 255).astype(np.uint8)
    letterbox = known.letterbox
    whole, pixels = letterbox.restore(found), letterbox.height * letterbox.width
    area = (whole > level(decision["top"])).sum() * decision["reference_size"] ** 2 / pixels  # of an image of that side
    passes = known.stacked >= decision["gate"] and (not known.heads or np.mean(known.heads) >= decision["label_gate"])
    if area < decision["least_area"] or not passes:
        return np.zeros_like(known.canvas, bool)
    least = decision["least_component"] * letterbox.place(len(found)).area / decision["reference_size"] ** 2
    found = np.where(_small_parts(found > level(decision["bottom"]), least), 0, found).astype(np.uint8)
    return letterbox.apply((letterbox.restore(found) > level(decision["bottom"])) * np.uint8(255)) > 127


def level(score: float) -> int:
    """The 8-bit level that a pixel must exceed for its probability to exceed `score`."""
    return int(np.floor(score * 255 + 1e-9))


def deciding(known: Known) -> np.ndarray:
    """The map that the final mask comes from, float of 0..1: the mask stack's, or the segmenters' mean."""
    maps = [known.maps[MASK_STACK]] if MASK_STACK in known.maps else list(known.maps.values())
    size = max(found.shape[0] for found in maps)
    return np.rint(np.mean([resize(found, size, size) for found in maps], axis=0, dtype=np.float32)) / 255


def _small_parts(mask: np.ndarray, least: float) -> np.ndarray:
    """The mask's connected parts of fewer than `least` pixels."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return mask & (stats[:, cv2.CC_STAT_AREA] < least)[parts]
