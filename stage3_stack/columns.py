"""What LightGBM sees beside the bottleneck features: header, chest box and mask statistics, by image_id."""

import numpy as np
import pandas as pd

from cxr import boxes, ids
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack.config import Column
from stage3_stack.masks import Seen
from stage3_stack.thresholds import Counts, level

CODES = {"sex": ("F", "M"), "view": ("AP", "PA")}
AREAS = (0.3, 0.5, 0.7)
TOP = 0.01  # share of the pixels whose mean is a map's score
Columns = dict[Column, pd.DataFrame]


def gather(paths: Paths, prepared: Prepared, asked: list[Column], seen: list[Seen]) -> Columns:
    """The asked-for columns that there are, each table indexed by image_id; NaN where an image has none.

    seen: held-out and test images with their mean maps; none without segmenters. Raises UsageError where
    nothing that is asked for is there.
    """
    found: Columns = {"header": header(prepared.manifest)}
    if paths.boxes.is_file():
        found["box"] = box_geometry(boxes.read_table(paths.boxes), prepared.manifest)
    if seen:
        found["masks"] = pd.concat([mask_statistics(part.images.ids, part.counts) for part in seen])
    if not {"pca", *found} & set(asked):
        raise UsageError(f"lightgbm.columns: of {', '.join(asked)} nothing is there; add pca or header")
    return found


def header(manifest: pd.DataFrame) -> pd.DataFrame:
    """Age, sex (0 F, 1 M) and view (0 AP, 1 PA) of images; NaN where the DICOM says nothing."""
    coded = {name: manifest[name].map({zero: 0.0, one: 1.0}).astype(float) for name, (zero, one) in CODES.items()}
    return pd.DataFrame({"age": manifest["age"].astype(float)} | coded, index=manifest.index)


def box_geometry(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Corner, width, height and area of each chest box as shares of the frame, and whether it is a fallback."""
    table = table.set_index(table["Filename"].map(ids.image_id)).reindex(manifest.index)
    x, y = table["xmin"] / manifest["width"], table["ymin"] / manifest["height"]
    width, height = table["xmax"] / manifest["width"] - x, table["ymax"] / manifest["height"] - y
    fallback = (table["source"] == "fallback").astype(float).where(table["source"].notna())
    edges = {"x": x, "y": y, "width": width, "height": height}
    return pd.DataFrame(edges | {"area": width * height, "fallback": fallback})


def mask_statistics(image_ids: list[str], counts: Counts) -> pd.DataFrame:
    """Highest score, mean of the top 1 %, share of the frame above some, parts above .5, the label heads' mean."""
    top = np.maximum(np.rint(TOP * counts.pixels), 1).astype(int)
    found = {
        "highest": (counts.above > 0).sum(axis=1) / 255,  # the levels below the highest are just those exceeded
        # a pixel counts once a level that it exceeds
        "top": np.minimum(counts.above, top[:, None]).sum(axis=1) / top / 255,
        **{f"above_{score}": counts.above[:, level(score)] / counts.pixels for score in AREAS},
        "parts": counts.pieces.astype(float), "head": counts.head,
    }  # fmt: skip
    return pd.DataFrame(found, index=image_ids)
