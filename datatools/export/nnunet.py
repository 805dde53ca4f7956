"""A 2-D dataset of nnU-Net v2 (its documentation/dataset_format.md); the export's folder serves as nnUNet_raw.

splits_final.json holds our folds; nnU-Net reads it from nnUNet_preprocessed/Dataset<NNN>_Pneumothorax/, so copy it
there after planning. Unlabelled images are left out.
"""

from pathlib import Path

from cxr.files import write_json
from datatools.export.export_source import Example, Source
from datatools.export.image_encoding import encode_png

DATASET_NAME = "Dataset501_Pneumothorax"  # to change the number, rename the folder


def write_layout(source: Source, folder: Path) -> None:
    """Write the labelled and the test images of `source` below `folder`."""
    root, train_ids = folder / DATASET_NAME, source.prepared.list_ids("train")
    for subfolder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / subfolder).mkdir(parents=True)
    for files in source.map_examples(_encode_case, source.image_ids):
        for path, data in files.items():
            (root / path).write_bytes(data)
    write_json(root / "dataset.json", _build_dataset_record(len(train_ids)))
    write_json(root / "splits_final.json", _build_splits(source, train_ids))


def _encode_case(example: Example) -> dict[str, bytes]:
    """The files of a case, path -> bytes: its channel 0, and its mask of 0 and 1."""
    name = f"{example.image_id}_0000.png"
    if example.mask is None:
        return {f"imagesTs/{name}": encode_png(example.image)}
    return {f"imagesTr/{name}": encode_png(example.image), f"labelsTr/{example.image_id}.png": encode_png(example.mask)}


def _build_dataset_record(count: int) -> dict:
    return {
        "name": "Pneumothorax", "channel_names": {"0": "X-ray"}, "labels": {"background": 0, "pneumothorax": 1},
        "numTraining": count, "file_ending": ".png", "overwrite_image_reader_writer": "NaturalImage2DIO",
    }  # fmt: skip


def _build_splits(source: Source, train_ids: list[str]) -> list[dict[str, list[str]]]:
    held_out = [set(source.fold_ids(fold)) for fold in range(source.prepared.fold_count)]
    return [
        {"train": [image_id for image_id in train_ids if image_id not in val_ids], "val": sorted(val_ids)}
        for val_ids in held_out
    ]
