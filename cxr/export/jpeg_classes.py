"""Class folders of JPEGs, as erinqhu's classifiers and most libraries read them; the one layout that loses something.

train/ and valid/ (fold 0, patients kept apart), each with pneumothorax/ and no_pneumothorax/; test/; unlabelled/.
"""

from pathlib import Path

from cxr.export.encode import jpeg
from cxr.export.source import Example, Source

CLASSES = ("no_pneumothorax", "pneumothorax")


def write(source: Source, folder: Path) -> None:
    """Write all images of `source` below `folder`."""
    places = [f"{part}/{name}" for part in ("train", "valid") for name in CLASSES]
    for place in (*places, *(split for split in source.counts if split != "train")):
        (folder / place).mkdir(parents=True)
    for path, data in source.each(lambda example: (_path(example), jpeg(example.image)), source.ids):
        (folder / path).write_bytes(data)


def _path(example: Example) -> str:
    name = f"{example.image_id}.jpg"
    if example.label is None:
        return f"{example.split}/{name}"
    return f"{'valid' if example.fold == 0 else 'train'}/{CLASSES[example.label]}/{name}"
