"""Data lists in the Medical Segmentation Decathlon's format, as MONAI reads them, and PNGs: label values are 0 and 1.

datalist.json: training (each item with its fold and class), test, unlabelled. fold<k>.json: the same data with
fold k as validation. Paths are relative to the export's folder.
"""

from pathlib import Path

from cxr.files import write_json
from datatools.export.export_source import Example, Source
from datatools.export.image_encoding import encode_png


def write_layout(source: Source, folder: Path) -> None:
    """Write all images of `source` below `folder`."""
    for subfolder in ("images", "labels"):
        (folder / subfolder).mkdir()
    lists: dict[str, list[dict]] = {"training": []} | {split: [] for split in source.image_counts if split != "train"}
    for split, item, files in source.map_examples(_build_list_item, source.image_ids):
        lists["training" if split == "train" else split].append(item)
        for path, data in files.items():
            (folder / path).write_bytes(data)
    write_json(folder / "datalist.json", _build_list_header(source) | lists)
    for fold in range(source.prepared.fold_count):
        fold_lists = lists | _split_by_fold(lists["training"], fold)
        write_json(folder / f"fold{fold}.json", _build_list_header(source) | fold_lists)


def _build_list_item(example: Example) -> tuple[str, dict, dict[str, bytes]]:
    """The image's split, its item in the list, and its files, path -> bytes."""
    image = f"images/{example.image_id}.png"
    if example.mask is None:
        return example.split, {"image": image}, {image: encode_png(example.image)}
    label = f"labels/{example.image_id}.png"
    item = {"image": image, "label": label, "class": example.label, "fold": example.fold}
    return example.split, item, {image: encode_png(example.image), label: encode_png(example.mask)}


def _build_list_header(source: Source) -> dict:
    counts = source.image_counts
    return {
        "name": "Pneumothorax", "tensorImageSize": "2D", "modality": {"0": "X-ray"},
        "labels": {"0": "background", "1": "pneumothorax"},
        "numTraining": counts["train"], "numTest": counts.get("test", 0),
    }  # fmt: skip


def _split_by_fold(items: list[dict], fold: int) -> dict[str, list[dict]]:
    return {
        "training": [item for item in items if item["fold"] != fold],
        "validation": [item for item in items if item["fold"] == fold],
    }
