"""PNGs of the labelled images and their masks (0 and 255) under equal names, and their folds; test/; unlabelled/."""

from pathlib import Path

from cxr import tables
from cxr.export.encode import png
from cxr.export.source import Example, Source

FOLDS: tables.Schema = {"image_id": "str", "label": "int", "fold": "int", "subfold": "int"}


def write(source: Source, folder: Path) -> None:
    """Write all images of `source` below `folder`."""
    for place in ("images", "masks", *(split for split in source.counts if split != "train")):
        (folder / place).mkdir()
    for files in source.each(_files, source.ids):
        for path, data in files.items():
            (folder / path).write_bytes(data)
    folds = source.prepared.folds.loc[source.prepared.ids("train")]
    folds = folds.assign(label=source.prepared.labels(folds.index.tolist()).astype(int))
    tables.write(folds, folder / "folds.csv", FOLDS)


def _files(example: Example) -> dict[str, bytes]:
    if example.mask is None:
        return {f"{example.split}/{example.image_id}.png": png(example.image)}
    pictures = {"images": example.image, "masks": example.mask * 255}
    return {f"{place}/{example.image_id}.png": png(picture) for place, picture in pictures.items()}
