"""What the tests of stage 0 share: the stage run in small, its table, and detections made by hand."""

import csv

import pandas as pd

from cxr import step, tables
from cxr.datasets import box_table
from cxr.datasets.image_ids import parse_image_id
from cxr.datasets.prepared import Prepared
from stage0_bbox import config, detect, train
from stage0_bbox.choose_boxes import ChestBoxChooser
from stage0_bbox.data import assign_folds


def build_settings(**settings) -> config.DetectorConfig:
    """The tests' detector, trained for one step."""
    smoke = config.read_detector_settings("smoke")
    brief = {"epoch_images": 4, "training": smoke.training.model_copy(update={"epochs": 1})}
    return smoke.model_copy(update=brief | settings)


def run_stage(house, **settings) -> config.BoxStep:
    """What the command does."""
    detector = build_settings(**settings)
    stage = train.Stage(house.recipe, house.paths, detector)
    unit = config.build_box_step(house.recipe, house.paths, detector)
    step.run_step(unit, lambda _identity, metrics: train.run_stage_steps(stage, unit, metrics))
    return unit


def edit_row(path, key: str, **values) -> None:
    """Edit one row of the boxes, as a user would."""
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row |= values if row["Filename"] == f"{key}.png" else {}
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(tables.BOXES))
        writer.writeheader()
        writer.writerows(rows)


def read_table(house) -> pd.DataFrame:
    found = box_table.read_boxes_table(house.paths.editable_boxes_csv)
    return found.set_index(found["Filename"].map(parse_image_id))


def build_chooser(house, **settings) -> ChestBoxChooser:
    prepared = Prepared(house.paths.prepared_folder, house.paths.folds_csv)
    part = assign_folds(prepared, list(house.hand), 2)
    return ChestBoxChooser(
        prepared, config.read_detector_settings("smoke").model_copy(update=settings), house.hand, part
    )


def make_detections(house, score: float, away: float = 0.0) -> pd.DataFrame:
    """Detections: the true boxes, moved by `away` pixels."""
    rows = [(key, *(edge + away for edge in box), score) for key, box in house.truth.items()]
    return pd.DataFrame(rows, columns=list(detect.DETECTIONS)).set_index("image_id")
