"""COCO: images/, annotations.json of the labelled ones; image_info_test.json and _unlabelled.json have no pneumothorax.

Category 1, pneumothorax: one annotation for each connected region (8 neighbours), its mask as uncompressed COCO
run lengths. Category 2, chest, where stage 0's boxes are known: a rectangle. All in pixels of the exported image.
An image's `letterbox` is the original's height and width, and the side of the canvas that it was fitted into before the
export's own scale: by it stage 0 takes these boxes back, exactly (cxr/box_files.py).
"""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cxr import rle
from cxr.export.encode import png
from cxr.export.source import Example, Source
from cxr.geometry import Box

CATEGORIES = [
    {"id": 1, "name": "pneumothorax", "supercategory": "finding"},
    {"id": 2, "name": "chest", "supercategory": "anatomy"},
]


def write(source: Source, folder: Path) -> None:
    """Write all images of `source` below `folder`; ids of images go on from one file to the next."""
    (folder / "images").mkdir()
    first = 1
    for split, count in source.counts.items():
        name = "annotations.json" if split == "train" else f"image_info_{split}.json"
        _write_split(source, folder, source.prepared.ids(split), first, folder / name)
        first += count


def _write_split(source: Source, folder: Path, ids: list[str], first: int, path: Path) -> None:
    images, annotations = [], []  # as text: a tenth of the memory of Python's numbers
    for number, (facts, data, found) in enumerate(source.each(partial(_described, source), ids), first):
        (folder / "images" / facts["file_name"]).write_bytes(data)
        images.append(json.dumps({"id": number, **facts}))
        for annotation in found:
            annotations.append(json.dumps({"id": len(annotations) + 1, "image_id": number, **annotation}))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{"categories": {json.dumps(CATEGORIES if source.boxes else CATEGORIES[:1])},\n')
        for name, items, end in (("images", images, "],\n"), ("annotations", annotations, "]}\n")):
            file.write(f'"{name}": [\n' + ",\n".join(items) + end)


def _described(source: Source, example: Example) -> tuple[dict, bytes, list[dict]]:
    """The image's entry, its PNG, and its annotations, both without their ids."""
    height, width = example.image.shape
    facts = {"file_name": f"{example.image_id}.png", "height": height, "width": width}
    if example.fold is not None:
        facts["fold"] = example.fold
    if source.crop == "full":
        facts["letterbox"] = source.prepared.letterbox(example.image_id)._asdict()
    found = [] if example.mask is None else regions(example.mask)
    return facts, png(example.image), found + ([_chest(example.chest)] if example.chest else [])


def regions(mask: np.ndarray) -> list[dict]:
    """An annotation for each connected region of a mask [h, w] of 0 or 1."""
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return [_region(numbers == number, stats[number].tolist()) for number in range(1, count)]


def _region(mask: np.ndarray, stats: list[int]) -> dict:
    *box, area = stats
    edges = rle.runs(rle.encode(mask)).ravel()
    counts = np.diff([0, *edges, mask.size]).tolist()  # of 0 and 1 in turn, down the columns
    segmentation = {"size": list(mask.shape), "counts": counts if counts[-1] else counts[:-1]}
    return {"category_id": 1, "bbox": box, "area": area, "iscrowd": 0, "segmentation": segmentation}


def _chest(box: Box) -> dict:
    corners = [box.xmin, box.ymin, box.xmax, box.ymin, box.xmax, box.ymax, box.xmin, box.ymax]
    bbox = [box.xmin, box.ymin, box.width, box.height]
    return {"category_id": 2, "bbox": bbox, "area": box.area, "iscrowd": 0, "segmentation": [corners]}
