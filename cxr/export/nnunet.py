"""A 2-D data set of nnU-Net v2 (documentation/dataset_format.md): nnUNet_raw is the export's folder.

splits_final.json holds our folds; nnU-Net reads it from nnUNet_preprocessed/Dataset<NNN>_Pneumothorax/, so copy it
there after planning. Unlabelled images are left out.
"""

from pathlib import Path

from cxr.export.encode import png
from cxr.export.source import Example, Source
from cxr.files import write_json

NAME = "Dataset501_Pneumothorax"  # the number is free to change with the folder's name


def write(source: Source, folder: Path) -> None:
    """Write the labelled and the test images of `source` below `folder`."""
    root, train = folder / NAME, source.prepared.ids("train")
    for place in ("imagesTr", "labelsTr", "imagesTs"):
        (root / place).mkdir(parents=True)
    for files in source.each(_files, source.ids):
        for path, data in files.items():
            (root / path).write_bytes(data)
    write_json(root / "dataset.json", _description(len(train)))
    write_json(root / "splits_final.json", _splits(source, train))


def _files(example: Example) -> dict[str, bytes]:
    """Channel 0 of a case, and its labels 0 and 1."""
    name = f"{example.image_id}_0000.png"
    if example.mask is None:
        return {f"imagesTs/{name}": png(example.image)}
    return {f"imagesTr/{name}": png(example.image), f"labelsTr/{example.image_id}.png": png(example.mask)}


def _description(count: int) -> dict:
    return {
        "name": "Pneumothorax", "channel_names": {"0": "X-ray"}, "labels": {"background": 0, "pneumothorax": 1},
        "numTraining": count, "file_ending": ".png", "overwrite_image_reader_writer": "NaturalImage2DIO",
    }  # fmt: skip


def _splits(source: Source, train: list[str]) -> list[dict[str, list[str]]]:
    held_out = [set(source.fold_ids(fold)) for fold in range(source.prepared.fold_count)]
    return [{"train": [case for case in train if case not in out], "val": sorted(out)} for out in held_out]
