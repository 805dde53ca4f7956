"""From detections to chest boxes, and the metrics of the boxes."""

import numpy as np
import pandas as pd
import pytest

from stage0_bbox import detect, scores
from tests.stage0_bbox.stage_runs import build_chooser, make_detections


def test_an_unsure_detection_falls_back_to_the_mean_box(house):
    choose = build_chooser(house, score_threshold=0.5, margin=0.0)
    unsure, sure = choose.choose_boxes(make_detections(house, 0.49)), choose.choose_boxes(make_detections(house, 0.5))
    assert {box.source for box in unsure.values()} == {"fallback"}
    assert {box.source for box in sure.values()} == {"model"}
    mean = np.mean([np.array(house.hand[key]) / choose.frame_extent(key) for key in house.hand], axis=0)
    np.testing.assert_allclose(unsure["ID_0"].box, mean * choose.frame_extent("ID_0"))
    others = [key for key in house.hand if choose.fold_by_image[key] != choose.fold_by_image["1.0"]]
    mean = np.mean([np.array(house.hand[key]) / choose.frame_extent(key) for key in others], axis=0)
    np.testing.assert_allclose(unsure["1.0"].box, mean * choose.frame_extent("1.0"))


def test_nothing_found_is_a_fallback_whatever_the_threshold(house):
    chest_boxes = build_chooser(house, score_threshold=0.0).choose_boxes(make_detections(house, 0.0))
    assert {chest_box.source for chest_box in chest_boxes.values()} == {"fallback"}


def test_a_box_is_clipped_grown_and_clipped_again(house):
    choose = build_chooser(house, margin=0.1)
    row = choose.choose_boxes(
        pd.DataFrame([("1.0", -10.0, 10.0, 100.0, 60.0, 0.9)], columns=list(detect.DETECTIONS)).set_index("image_id")
    )
    written = choose.build_table(row, {}, house.paths.editable_boxes_csv).iloc[0]
    assert written["Filename"] == "1.0.png"
    assert written[["xmin", "xmax", "ymin", "ymax"]].tolist() == [0, 110, 5, 65]  # from (0, 10, 100, 60) in 128 x 128


def test_metrics_against_figures_counted_by_hand(house):
    choose = build_chooser(house, margin=0.0)
    metrics = scores.measure_boxes(choose, choose.choose_boxes(make_detections(house, 0.9)), house.hand)
    assert metrics["hand_boxes"] == len(house.hand)
    assert (metrics["iou_mean"], metrics["iou_good"], metrics["fallbacks"], metrics["missed"]) == (1, 1, 0, 0)
    moved = scores.measure_boxes(choose, choose.choose_boxes(make_detections(house, 0.9, away=10)), house.hand)
    inside = total = 0
    for key, row in house.manifest.set_index("image_id").iterrows():
        if row["mask_area"]:
            box = house.truth[key]
            total += row["mask_area"]
            inside += (int(box.width / 2) - 10) * (int(box.height / 4) - 10)
    assert moved["missed"] == pytest.approx(1 - inside / total, abs=1e-5)
    assert scores.measure_boxes(choose, choose.choose_boxes(make_detections(house, 0.9)), {})["iou_mean"] is None
