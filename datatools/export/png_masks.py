"""PNGs: images/ and masks/ (0 and 255) with the same file names, test/, unlabelled/; folds.csv has labels and folds."""

from pathlib import Path

from cxr import tables
from datatools.export.export_source import Example, Source
from datatools.export.image_encoding import encode_png

FOLDS_SCHEMA: tables.Schema = {"image_id": "str", "label": "int", "fold": "int", "subfold": "int"}


def write_layout(source: Source, folder: Path) -> None:
    """Write all images of `source` below `folder`."""
    for subfolder in ("images", "masks", *(split for split in source.image_counts if split != "train")):
        (folder / subfolder).mkdir()
    for files in source.map_examples(_encode_image_files, source.image_ids):
        for path, data in files.items():
            (folder / path).write_bytes(data)
    folds = source.prepared.folds.loc[source.prepared.list_ids("train")]
    folds = folds.assign(label=source.prepared.read_labels(folds.index.tolist()).astype(int))
    tables.write_table(folds, folder / "folds.csv", FOLDS_SCHEMA)


def _encode_image_files(example: Example) -> dict[str, bytes]:
    if example.mask is None:
        return {f"{example.split}/{example.image_id}.png": encode_png(example.image)}
    pictures = {"images": example.image, "masks": example.mask * 255}
    return {f"{subfolder}/{example.image_id}.png": encode_png(picture) for subfolder, picture in pictures.items()}
