"""stacked.parquet: every image's probability, and whether it is positive."""

import pandas as pd

from cxr import tables
from stage3_stack.config.files import STAGE3
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.map_sets import MapSet
from stage3_stack.postprocessing.thresholds import PostprocessingParams, passes_thresholds


def write_stacked_table(
    stage: Stage, held_out: pd.DataFrame, new_rows: pd.DataFrame, params: PostprocessingParams, test_set: MapSet | None
) -> None:
    """Write stacked.parquet; all images but the held-out ones are positive by the test's thresholds.

    stage: where to write
    held_out: split, prob and positive, by image_id
    new_rows: split and prob of unlabelled and test images, by image_id
    params: the thresholds of the test
    test_set: the test images' maps, for the label head threshold; images without a map, and all if this is None, are
        positive by the probability threshold alone
    """
    prob = new_rows["prob"].to_numpy()
    predicted_positive = prob >= params.probability_threshold
    if test_set is not None:
        rows_with_maps = new_rows.index.get_indexer(test_set.images.ids)
        predicted_positive[rows_with_maps] = passes_thresholds(params, test_set.histograms, prob[rows_with_maps])
    table = pd.concat([held_out, new_rows.assign(positive=predicted_positive)])
    table = table.rename_axis("image_id").reset_index()
    tables.write_table(table, stage.folder / "stacked.parquet", tables.STACKED)


def read_held_out_rows(stage: Stage) -> pd.DataFrame:
    """The held-out images of stacked.parquet, by image_id; raises UsageError if the file is missing."""
    table = tables.read_table(stage.folder / "stacked.parquet", tables.STACKED, STAGE3).set_index("image_id")
    return table[table["split"] == "train"]
