"""A dozen patients on 64 x 64 canvases, whose chest is a bright rectangle, and hand boxes for most of them."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.imaging import rle
from cxr.imaging.geometry import Box, Letterbox
from cxr.paths import Paths
from cxr.recipe import Recipe

SIZE, VIA = 64, "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
RECIPE = Recipe(
    name="tiny", about="a test", prepared_size=SIZE, folds=2, subfolds=2, stage0="smoke", stage1=[], stage2=[],
    stage3="smoke",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_WORKERS", "0")
    for name in ("DATA", "RECIPE", "WEIGHTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def house(tmp_path: Path, home: Path) -> SimpleNamespace:
    """Prepared data: 24 training images of 12 patients, 2 unlabelled of patients 0 and 1, 4 test images."""
    paths = Paths(tmp_path / "xray", RECIPE.name, SIZE)
    manifest, truth = _images(paths)
    hand = {key: truth[key] for key in manifest["image_id"] if manifest.set_index("image_id").split[key] != "test"}
    hand = dict(list(hand.items())[::2]) | {"u0": truth["u0"]}
    write_via(paths.data_folder / "boundingbox_csv" / "original_boundingbox.csv", hand)
    return SimpleNamespace(write_via=write_via, paths=paths, recipe=RECIPE, truth=truth, hand=hand, manifest=manifest)


def _images(paths: Paths) -> tuple[pd.DataFrame, dict[str, Box]]:
    random = np.random.default_rng(0)
    names = [(f"1.{n}", "train", f"p{n // 2}") for n in range(24)]
    names += [("u0", "unlabelled", "p0"), ("u1", "unlabelled", "p1")] + [(f"ID_{n}", "test", None) for n in range(4)]
    rows, index, pixels, truth = [], [], [], {}
    for row, (key, split, patient) in enumerate(names):
        height, width = (200, 160) if row % 3 else (128, 128)
        box = Box(*(random.uniform(0.1, 0.2, 2) * (width, height)), *(random.uniform(0.8, 0.9, 2) * (width, height)))
        truth[key] = Box(*map(round, box))
        image, mask = _picture(height, width, truth[key])
        letterbox = Letterbox(height, width, SIZE)
        pixels.append(letterbox.image_to_canvas(image))
        positive = split == "train" and row // 2 % 2 == 0
        rows.append({
            "image_id": key, "split": split, "path": f"{key}.dcm", "patient": patient, "age": 50.0, "sex": "F",
            "view": "PA", "height": height, "width": width, "label": float(positive) if split == "train" else np.nan,
            "mask_area": int(mask.sum()) if positive else 0, "rle": rle.encode_mask(mask) if positive else None,
        })  # fmt: skip
        dx, dy = letterbox.content_offset
        index.append({"image_id": key, "row": row, "scale": letterbox.scale, "dx": dx, "dy": dy, "mask_row": -1})
    _store(paths, pd.DataFrame(rows), pd.DataFrame(index), np.stack(pixels))
    return pd.DataFrame(rows), truth


def _picture(height: int, width: int, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """A chest of 200 on 30; the 'pneumothorax' is its upper left eighth."""
    image, mask = np.full((height, width), 30, np.uint8), np.zeros((height, width), bool)
    image[box.ymin : box.ymax, box.xmin : box.xmax] = 200
    mask[box.ymin : box.ymin + int(box.height / 4), box.xmin : box.xmin + int(box.width / 2)] = True
    return image, mask


def _store(paths: Paths, manifest: pd.DataFrame, index: pd.DataFrame, pixels: np.ndarray) -> None:
    paths.prepared_folder.mkdir(parents=True)
    tables.write_table(manifest, paths.prepared_folder / "manifest.parquet", tables.MANIFEST)
    tables.write_table(index, paths.prepared_folder / "index.parquet", tables.INDEX)
    np.save(paths.prepared_folder / "pixels.npy", pixels)
    np.save(paths.prepared_folder / "masks.npy", np.zeros((0, SIZE, SIZE // 8), np.uint8))
    train = manifest[manifest["split"] == "train"]
    number = train["patient"].str[1:].astype(int)
    folds = pd.DataFrame({"image_id": train["image_id"], "fold": number % 2, "subfold": number // 2 % 2, "val": False})
    tables.write_table(folds, paths.folds_csv, tables.FOLDS)


def write_via(path: Path, boxes: dict[str, Box | None]) -> Path:
    """VGG Image Annotator's CSV; None is an image without a region."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(VIA.split(","))
        for key, box in boxes.items():
            shape = {"name": "rect", "x": box[0], "y": box[1], "width": box[2] - box[0], "height": box[3] - box[1]}
            writer.writerow([f"{key}.jpg", 1000, "{}", int(box is not None), 0, json.dumps(shape if box else {}), "{}"])
    return path
