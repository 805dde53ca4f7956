"""All that stage 3 predicts: probabilities, thresholds, and who is positive under them."""

from dataclasses import dataclass

import pandas as pd

from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from stage3_stack.config.files import STAGE1
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.map_sets import MapSets
from stage3_stack.postprocessing.nested_choice import NestedPostprocessing, choose_postprocessing, predict_positives
from stage3_stack.postprocessing.nesting import HeldOutImages


@dataclass(frozen=True)
class Predictions:
    """The probabilities, maps and thresholds of every image; tables are indexed by image_id."""

    held_out: pd.DataFrame
    """fold, subfold, label, prob, and positive by the thresholds of the image's own group"""
    new_rows: pd.DataFrame
    """split and prob of unlabelled and test images"""
    maps: MapSets
    """The maps of held-out and test images, in the tables' order"""
    postprocessing: NestedPostprocessing

    @property
    def held_out_images(self) -> HeldOutImages:
        """What the thresholds were chosen by."""
        return HeldOutImages.from_table(self.held_out, self.maps.held_out and self.maps.held_out.histograms)


def choose_thresholds(stage: Stage, held_out: pd.DataFrame, new_rows: pd.DataFrame, maps: MapSets) -> Predictions:
    """Choose the thresholds on the held-out images, and apply them to these.

    stage: its settings say what is tried
    held_out: fold, subfold, label and prob of the held-out images, in the order of folds.csv
    new_rows: split and prob of unlabelled and test images
    maps: the maps that the masks are made from

    Returns the tables with the thresholds; held_out has a column more, positive.
    """
    images = HeldOutImages.from_table(held_out, maps.held_out and maps.held_out.histograms)
    postprocessing = choose_postprocessing(images, stage.settings)
    positive = predict_positives(postprocessing, images)
    return Predictions(held_out.assign(positive=positive), new_rows, maps, postprocessing)


def select_test_rows(prepared: Prepared, new_rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test images, in the manifest's order; raises UsageError if one has no probability."""
    test_ids = prepared.list_ids("test")
    missing = [image_id for image_id in test_ids if image_id not in new_rows.index]
    if missing:
        raise UsageError(f"test image {missing[0]} and {len(missing) - 1} more are not predicted; run {STAGE1} again")
    return new_rows.loc[test_ids]
