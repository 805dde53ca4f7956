"""What LightGBM sees beside the bottleneck features: header, chest box and mask statistics, by image_id."""

import numpy as np
import pandas as pd

from cxr.datasets import box_table, image_ids
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.paths import Paths
from stage3_stack.config import Column
from stage3_stack.postprocessing.final_masks import MapSet
from stage3_stack.postprocessing.thresholds import LevelHistograms, score_to_level

CODES = {"sex": ("F", "M"), "view": ("AP", "PA")}
AREA_SCORES = (0.3, 0.5, 0.7)
TOP_SHARE = 0.01  # share of the pixels whose mean is a map's score
Columns = dict[Column, pd.DataFrame]


def gather_columns(paths: Paths, prepared: Prepared, column_names: list[Column], map_sets: list[MapSet]) -> Columns:
    """The asked-for columns that there are, each table indexed by image_id; NaN where an image has none.

    map_sets: held-out and test images with their mean maps; none without segmenters. Raises UsageError where
    nothing that is asked for is there.
    """
    columns: Columns = {"header": header_columns(prepared.manifest)}
    if paths.boxes_csv.is_file():
        columns["box"] = box_geometry(box_table.read_boxes_table(paths.boxes_csv), prepared.manifest)
    if map_sets:
        columns["masks"] = pd.concat([mask_statistics(map_set.images.ids, map_set.histograms) for map_set in map_sets])
    if not {"pca", *columns} & set(column_names):
        raise UsageError(f"lightgbm.columns: of {', '.join(column_names)} nothing is there; add pca or header")
    return columns


def header_columns(manifest: pd.DataFrame) -> pd.DataFrame:
    """Age, sex (0 F, 1 M) and view (0 AP, 1 PA) of images; NaN where the DICOM says nothing."""
    coded = {
        name: manifest[name].map({first_code: 0.0, second_code: 1.0}).astype(float)
        for name, (first_code, second_code) in CODES.items()
    }
    return pd.DataFrame({"age": manifest["age"].astype(float)} | coded, index=manifest.index)


def box_geometry(box_table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Corner, width, height and area of each chest box as shares of the frame, and whether it is a fallback."""
    box_table = box_table.set_index(box_table["Filename"].map(image_ids.parse_image_id)).reindex(manifest.index)
    x, y = box_table["xmin"] / manifest["width"], box_table["ymin"] / manifest["height"]
    width, height = box_table["xmax"] / manifest["width"] - x, box_table["ymax"] / manifest["height"] - y
    fallback = (box_table["source"] == "fallback").astype(float).where(box_table["source"].notna())
    edges = {"x": x, "y": y, "width": width, "height": height}
    return pd.DataFrame(edges | {"area": width * height, "fallback": fallback})


def mask_statistics(image_ids: list[str], histograms: LevelHistograms) -> pd.DataFrame:
    """Highest score, mean of the top 1 %, share of the frame above some, parts above .5, the label heads' mean."""
    top_pixels = np.maximum(np.rint(TOP_SHARE * histograms.pixel_count), 1).astype(int)
    statistics = {
        # the levels below the highest are just those exceeded
        "highest": (histograms.area_above > 0).sum(axis=1) / 255,
        # a pixel counts once a level that it exceeds
        "top": np.minimum(histograms.area_above, top_pixels[:, None]).sum(axis=1) / top_pixels / 255,
        **{f"above_{score}": histograms.area_above[:, score_to_level(score)] / histograms.pixel_count
           for score in AREA_SCORES},
        "parts": histograms.component_count.astype(float), "head": histograms.label_head_prob,
    }  # fmt: skip
    return pd.DataFrame(statistics, index=image_ids)
