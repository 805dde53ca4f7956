"""COCO: images/; annotations.json for the labelled images, image_info_test.json and image_info_unlabelled.json.

Category 1, pneumothorax: one annotation for each connected region (8 neighbours), its mask as uncompressed COCO run
lengths. Category 2, chest, where stage 0's boxes are known: a rectangle. All in pixels of the exported image.
`letterbox` of an image holds the height and width of the original and the side of the prepared canvas, from which stage
0 maps these boxes back to the original exactly (cxr/datasets/box_files.py).
"""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cxr.imaging import rle
from cxr.imaging.geometry import Box
from datatools.export.export_source import Example, Source
from datatools.export.image_encoding import encode_png

CATEGORIES = [
    {"id": 1, "name": "pneumothorax", "supercategory": "finding"},
    {"id": 2, "name": "chest", "supercategory": "anatomy"},
]


def write_layout(source: Source, folder: Path) -> None:
    """Write all images of `source` below `folder`; image ids are unique over all files."""
    (folder / "images").mkdir()
    first_id = 1
    for split, count in source.image_counts.items():
        name = "annotations.json" if split == "train" else f"image_info_{split}.json"
        _write_split(source, folder, source.prepared.list_ids(split), first_id, folder / name)
        first_id += count


def _write_split(source: Source, folder: Path, ids: list[str], first_id: int, path: Path) -> None:
    images, annotations = [], []  # as text, which takes a tenth of the memory of Python's numbers
    for number, (entry, png_bytes, image_annotations) in enumerate(
        source.map_examples(partial(_build_coco_entry, source), ids), first_id
    ):
        (folder / "images" / entry["file_name"]).write_bytes(png_bytes)
        images.append(json.dumps({"id": number, **entry}))
        for annotation in image_annotations:
            annotations.append(json.dumps({"id": len(annotations) + 1, "image_id": number, **annotation}))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{"categories": {json.dumps(CATEGORIES if source.boxes else CATEGORIES[:1])},\n')
        for name, items, end in (("images", images, "],\n"), ("annotations", annotations, "]}\n")):
            file.write(f'"{name}": [\n' + ",\n".join(items) + end)


def _build_coco_entry(source: Source, example: Example) -> tuple[dict, bytes, list[dict]]:
    """Entry of the image, its PNG, and its annotations; entry and annotations still lack their ids."""
    height, width = example.image.shape
    entry = {"file_name": f"{example.image_id}.png", "height": height, "width": width}
    if example.fold is not None:
        entry["fold"] = example.fold
    if source.crop == "full":
        entry["letterbox"] = source.prepared.get_letterbox(example.image_id)._asdict()
    annotations = [] if example.mask is None else annotate_regions(example.mask)
    if example.chest_box:
        annotations.append(_annotate_chest(example.chest_box))
    return entry, encode_png(example.image), annotations


def annotate_regions(mask: np.ndarray) -> list[dict]:
    """An annotation for each connected region of a mask [height, width] of 0 or 1, without ids."""
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return [_annotate_region(numbers == number, stats[number].tolist()) for number in range(1, count)]


def _annotate_region(mask: np.ndarray, stats: list[int]) -> dict:
    *box, area = stats
    edges = rle.parse_runs(rle.encode_mask(mask)).ravel()
    counts = np.diff([0, *edges, mask.size]).tolist()  # lengths of runs of 0 and 1 in turn, down the columns
    segmentation = {"size": list(mask.shape), "counts": counts if counts[-1] else counts[:-1]}
    return {"category_id": 1, "bbox": box, "area": area, "iscrowd": 0, "segmentation": segmentation}


def _annotate_chest(box: Box) -> dict:
    corners = [box.xmin, box.ymin, box.xmax, box.ymin, box.xmax, box.ymax, box.xmin, box.ymax]
    bbox = [box.xmin, box.ymin, box.width, box.height]
    return {"category_id": 2, "bbox": bbox, "area": box.area, "iscrowd": 0, "segmentation": [corners]}
