"""LightGBM's features besides the principal components: header, chest box and mask statistics, by image_id."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from cxr.datasets import box_table, image_ids
from cxr.errors import UsageError
from stage3_stack.config import Column
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.map_sets import MapSet
from stage3_stack.postprocessing.thresholds import LevelHistograms, score_to_level

CODES = {"sex": ("F", "M"), "view": ("AP", "PA")}
AREA_SCORES = (0.3, 0.5, 0.7)
TOP_SHARE = 0.01  # share of the pixels whose mean is a map's score
Columns = dict[Column, pd.DataFrame]


def gather_columns(stage: Stage, map_sets: Iterable[MapSet | None]) -> Columns:
    """The groups of columns that exist, each a table indexed by image_id; NaN where an image has no value.

    map_sets: held-out and test images with their mean maps; None without segmenters. Raises UsageError if none of the
    settings' lightgbm.columns exists.
    """
    manifest, column_names = stage.prepared.manifest, stage.settings.lightgbm.columns
    columns: Columns = {"header": header_columns(manifest)}
    if stage.paths.boxes_csv.is_file():
        columns["box"] = box_geometry(box_table.read_boxes_table(stage.paths.boxes_csv), manifest)
    if statistics := [mask_statistics(maps.images.ids, maps.histograms) for maps in map_sets if maps is not None]:
        columns["masks"] = pd.concat(statistics)
    if not {"pca", *columns} & set(column_names):
        raise UsageError(f"lightgbm.columns: of {', '.join(column_names)} nothing is there; add pca or header")
    return columns


def header_columns(manifest: pd.DataFrame) -> pd.DataFrame:
    """Age in years, sex (0 F, 1 M) and view (0 AP, 1 PA) of images; NaN where the DICOM header has no value."""
    coded = {
        name: manifest[name].map({first_code: 0.0, second_code: 1.0}).astype(float)
        for name, (first_code, second_code) in CODES.items()
    }
    return pd.DataFrame({"age": manifest["age"].astype(float)} | coded, index=manifest.index)


def box_geometry(box_table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Corner, width, height and area of each chest box as shares of the frame, and 1 if it is a fallback, else 0."""
    box_table = box_table.set_index(box_table["Filename"].map(image_ids.parse_image_id)).reindex(manifest.index)
    x, y = box_table["xmin"] / manifest["width"], box_table["ymin"] / manifest["height"]
    width, height = box_table["xmax"] / manifest["width"] - x, box_table["ymax"] / manifest["height"] - y
    fallback = (box_table["source"] == "fallback").astype(float).where(box_table["source"].notna())
    edges = {"x": x, "y": y, "width": width, "height": height}
    return pd.DataFrame(edges | {"area": width * height, "fallback": fallback})


def mask_statistics(image_ids: list[str], histograms: LevelHistograms) -> pd.DataFrame:
    """One row per map, by image_id.

    highest: score; top: mean score of the top 1 %; above_0.3, above_0.5, above_0.7: shares of the frame; parts: number
    of connected components above .5; head: mean probability of the label heads.
    """
    top_pixels = np.maximum(np.rint(TOP_SHARE * histograms.pixel_count), 1).astype(int)
    statistics = {
        # the number of levels that some pixel exceeds is the highest level
        "highest": (histograms.area_above > 0).sum(axis=1) / 255,
        # summed over levels, each pixel counts once for each level that it exceeds, so by its own level
        "top": np.minimum(histograms.area_above, top_pixels[:, None]).sum(axis=1) / top_pixels / 255,
        **{f"above_{score}": histograms.area_above[:, score_to_level(score)] / histograms.pixel_count
           for score in AREA_SCORES},
        "parts": histograms.component_count.astype(float), "head": histograms.label_head_prob,
    }  # fmt: skip
    return pd.DataFrame(statistics, index=image_ids)
