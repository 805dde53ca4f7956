"""How often a training crop of an image with a pneumothorax holds none of it, and which label such a crop gets.

python -m bench.lost_lesions [--phantoms 120] [--epochs 10] [--size 384]

Phantoms with a pneumothorax, with their true chest boxes, are cropped and augmented as every member of stages 1 and 2
does in training. Printed for each member: the share of samples without a pixel of the lesion, and the share of these
that are labelled positive.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from tqdm import tqdm

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box, crop_mask
from cxr.training.augment import augment_image
from cxr.training.cropping import draw_training_region, keyed_rng
from phantom.render import render_phantom
from stage1_classify import config as classify
from stage1_classify.data import ClassifierData
from stage2_segment import config as segment
from stage2_segment.data import SegmenterData


def prepare_phantoms(count: int, size: int) -> tuple[Prepared, dict[str, Box]]:
    """Phantoms with a pneumothorax, prepared in memory, and their chest boxes."""
    phantoms = [render_phantom(1, row, 0, size, positive=True) for row in tqdm(range(count), unit="phantom")]
    ids = [str(row) for row in range(count)]
    prepared = Prepared(Path("in memory"))
    vars(prepared).update(
        pixels=np.stack([phantom.image for phantom in phantoms]),
        masks=np.packbits([phantom.mask for phantom in phantoms], axis=-1),
        index=pd.DataFrame({"row": range(count), "mask_row": range(count)}, index=ids),
        manifest=pd.DataFrame({"height": size, "width": size, "label": 1.0}, index=ids),
    )  # fmt: skip
    return prepared, {image_id: Box(*phantom.box) for image_id, phantom in zip(ids, phantoms, strict=True)}


def measure_lost_lesions(data: ClassifierData | SegmenterData, epochs: int) -> tuple[float, float]:
    """Share of the samples that hold none of the lesion, and the share of these that are labelled positive."""
    labels = []
    for image_id in data.image_ids:
        for epoch in range(epochs):
            if not crop_lesion(data, image_id, epoch).any():
                labels.append(float(data.sample(image_id, epoch)["label"]))
    return len(labels) / (len(data.image_ids) * epochs), float(np.mean(labels)) if labels else 0.0


def crop_lesion(data: ClassifierData | SegmenterData, image_id: str, epoch: int) -> np.ndarray:
    """The lesion in a sample, bool or uint8 [size, size], from the same random numbers as the sample itself."""
    rng, view, mask = keyed_rng(data.seed, epoch, image_id), data.member.view, data.prepared.read_mask(image_id)
    region = draw_training_region(view, data.locate_chest(image_id), data.prepared.size, rng)
    mask = crop_mask(mask, region, view.size)
    return augment_image(data.member.augment, mask * np.uint8(255), mask, rng)[1]


def main(phantoms: int = 120, epochs: int = 10, size: int = 384) -> None:
    """Print a line for each member."""
    prepared, boxes = prepare_phantoms(phantoms, size)
    for stage, data_class in ((classify, ClassifierData), (segment, SegmenterData)):
        for path in sorted(stage.CONFIGS.glob("*.yaml")):
            member = stage.read_member(path.stem)
            # No larger than the phantoms.
            view = member.view.scale_sides(size / max(member.view.inference_size, size))
            dataset = data_class(prepared, boxes, member.model_copy(update={"view": view}), list(boxes), 1)
            lost_share, positive_share = measure_lost_lesions(dataset, epochs)
            head_note = ", with a label head" if getattr(member, "label_head", None) else ""
            print(f"{stage.ROOM} {path.stem}{head_note}: {lost_share:.2%} without the lesion, "
                  f"{positive_share:.0%} of these positive", flush=True)  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
