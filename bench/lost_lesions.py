"""How often a training crop of an image with a pneumothorax holds none of it, and what label such a crop is given.

python -m bench.lost_lesions [--phantoms 120] [--epochs 10] [--size 384]

Of phantoms with a pneumothorax, their boxes as they were made, each as every member of stages 1 and 2 sees it in
training: the share of samples without a pixel of the lesion, and the share of those that are labelled positive.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from tqdm import tqdm

from cxr.augment import augmented
from cxr.geometry import Box, cut_mask
from cxr.prepared import Prepared
from cxr.views import drawn_region, key
from phantom.render import render
from stage1_classify import config as classify
from stage1_classify.data import ClassifierData
from stage2_segment import config as segment
from stage2_segment.data import SegmenterData


def drawn(phantoms: int, size: int) -> tuple[Prepared, dict[str, Box]]:
    """Phantoms with a pneumothorax, prepared in memory, and their chest boxes."""
    found = [render(1, row, 0, size, positive=True) for row in tqdm(range(phantoms), unit="phantom")]
    ids = [str(row) for row in range(phantoms)]
    prepared = Prepared(Path("in memory"))
    vars(prepared).update(
        pixels=np.stack([one.image for one in found]), masks=np.packbits([one.mask for one in found], axis=-1),
        index=pd.DataFrame({"row": range(phantoms), "mask_row": range(phantoms)}, index=ids),
        manifest=pd.DataFrame({"height": size, "width": size, "label": 1.0}, index=ids),
    )  # fmt: skip
    return prepared, {image_id: Box(*one.box) for image_id, one in zip(ids, found, strict=True)}


def lost(data: ClassifierData | SegmenterData, epochs: int) -> tuple[float, float]:
    """Share of the samples that hold none of the lesion, and of those that are labelled positive all the same."""
    labels = []
    for image_id in data.image_ids:
        for epoch in range(epochs):
            if not lesion(data, image_id, epoch).any():
                labels.append(float(data.sample(image_id, epoch)["label"]))
    return len(labels) / (len(data.image_ids) * epochs), float(np.mean(labels)) if labels else 0.0


def lesion(data: ClassifierData | SegmenterData, image_id: str, epoch: int) -> np.ndarray:
    """What a sample shows of the lesion, drawn with the very random numbers of the sample."""
    rng, view, mask = key(data.seed, epoch, image_id), data.member.view, data.prepared.mask(image_id)
    part = drawn_region(view, data.chest(image_id), data.prepared.size, rng)
    mask = cut_mask(mask, part, view.size)
    return augmented(data.member.augment, mask * np.uint8(255), mask, rng)[1]


def main(phantoms: int = 120, epochs: int = 10, size: int = 384) -> None:
    """Prints a line for each member."""
    prepared, boxes = drawn(phantoms, size)
    for stage, data in ((classify, ClassifierData), (segment, SegmenterData)):
        for path in sorted(stage.CONFIGS.glob("*.yaml")):
            member = stage.read(path.stem)
            view = member.view.scaled(size / max(member.view.largest, size))  # no larger than the phantoms
            shown = data(prepared, boxes, member.model_copy(update={"view": view}), list(boxes), 1)
            gone, positive = lost(shown, epochs)
            head = ", with a label head" if getattr(member, "label_head", None) else ""
            print(f"{stage.ROOM} {path.stem}{head}: {gone:.2%} without the lesion, {positive:.0%} of these positive",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
