"""Class folders of JPEGs, as erinqhu's classifiers and most libraries read them; the only lossy layout.

train/ and valid/ (fold 0, patients kept apart), each with pneumothorax/ and no_pneumothorax/; test/; unlabelled/.
"""

from pathlib import Path

from datatools.export.export_source import Example, Source
from datatools.export.image_encoding import encode_jpeg

CLASSES = ("no_pneumothorax", "pneumothorax")


def write_layout(source: Source, folder: Path) -> None:
    """Write all images of `source` below `folder`."""
    class_folders = [f"{part}/{name}" for part in ("train", "valid") for name in CLASSES]
    for subfolder in (*class_folders, *(split for split in source.image_counts if split != "train")):
        (folder / subfolder).mkdir(parents=True)
    for path, data in source.map_examples(
        lambda example: (_choose_image_path(example), encode_jpeg(example.image)), source.image_ids
    ):
        (folder / path).write_bytes(data)


def _choose_image_path(example: Example) -> str:
    name = f"{example.image_id}.jpg"
    if example.label is None:
        return f"{example.split}/{name}"
    return f"{'valid' if example.fold == 0 else 'train'}/{CLASSES[example.label]}/{name}"
