"""The closing table: boxes, classifiers, stack and masks, on held-out images and on a known test."""

import textwrap

import numpy as np
import pandas as pd

from cxr import recipe, runs
from cxr.datasets import box_table
from cxr.errors import UsageError, run_main
from cxr.files import write_json, write_text
from cxr.imaging.geometry import box_iou
from cxr.paths import Paths
from cxr.recipe import Recipe
from evaluation import leakage
from evaluation.metrics import THIRDS, format_metric
from stage3_stack.config import RENAMED_DECISION_KEYS, STAGE3
from stage3_stack.config.stage import MAPS
from stage3_stack.config.wording import SHORT_NESTING_NOTES, STACKER_TITLES

COLUMN_NAMES = {"pca": "features", "header": "age, sex, view", "box": "box", "masks": "maps"}
BOX_METRICS = {
    "found boxes, mean IoU": "iou_mean",
    "found boxes, 5th percentile": "iou_p5",
    "found boxes as written, with margin": "iou_with_margin",
    "mean box of the training labels": "iou_mean_box",
    "share of fallbacks": "fallbacks",
}
"""Names of stage 0's metrics."""
NOTE = """\
AUC is the mean over folds, of pairs of images that the same head scored. Thirds are of lesion size; a third's
AUC is against all negatives. Calibration error is the expected one, less its bias. Dice is in the originals'
pixels. Calibration and decision (stage3/decision.json) are nested, but {seen}
the images by which they are judged. All metrics, also by view, sex, age: stage3/panel.json.
Research use only; not a medical device.
"""
Row = tuple[str, ...]
WIDTH = 108


def main() -> None:
    """Command: print the closing table of the chosen recipe's run, and write results.md and results.json."""
    chosen_recipe, paths = recipe.load_recipe_and_paths()
    text, results = build_closing_table(chosen_recipe, paths)
    write_text(paths.run_folder / "results.md", text)
    write_json(paths.run_folder / "results.json", results)
    print(text)


def build_closing_table(chosen_recipe: Recipe, paths: Paths) -> tuple[str, dict]:
    """The table as text, and the figures in it; raises UsageError if stage 3 has not run, or in an earlier version."""
    run_metrics = runs.read_metrics(paths.stage3_folder)
    if run_metrics is None:
        raise UsageError(f"{paths.stage3_folder / 'run.json'} is missing; it is made by: {STAGE3}")
    if "panel" not in run_metrics or RENAMED_DECISION_KEYS.keys() & (run_metrics.get("decision") or {}).keys():
        raise UsageError(f"{paths.stage3_folder / 'run.json'} is of an earlier version; make it anew: {STAGE3}")
    box_metrics = {"held_out": runs.read_metrics(paths.stage0_folder) or {}, "test": measure_test_boxes(paths)}
    results = {"recipe": chosen_recipe.name, "dataset": paths.dataset_name, "boxes": box_metrics} | run_metrics
    note = NOTE.format(seen=SHORT_NESTING_NOTES[results["nested_by"]])
    title = f"# {chosen_recipe.name} on {paths.dataset_name}"
    return f"{title}\n\n{render_table(results)}\n{build_footnotes(results)}\n{note}", results


def measure_test_boxes(paths: Paths) -> dict:
    """iou_with_margin: mean IoU of the boxes in use with the true ones of the test images; {} if the data has none."""
    path = paths.data_folder / "test-boxes.csv"
    if not (path.is_file() and paths.boxes_csv.is_file()):
        return {}
    true_boxes, written_boxes = box_table.index_edges_by_image(pd.read_csv(path)), box_table.read_boxes(paths.boxes_csv)
    keys = sorted(true_boxes.keys() & written_boxes.keys())
    overlap = box_iou(np.array([true_boxes[key] for key in keys]), np.array([written_boxes[key] for key in keys]))
    return {"iou_with_margin": float(overlap.mean())} if keys else {}


def render_table(results: dict) -> str:
    """The table in Markdown, its columns aligned."""
    columns = [results[name] | {"panel": results["panel"][name]} for name in ("held_out", "test") if results[name]]
    header = [("", *_column_titles(results)), ("images (with a pneumothorax)", *map(_count_cell, columns))]
    rows = [*_box_rows(results["boxes"], len(columns)), *_classifier_rows(results, columns)]
    return _align_rows([*header, *rows, *_probability_rows(results, columns), *_mask_rows(results, columns)])


def _column_titles(results: dict) -> list[str]:
    patients_known = results["patients_known"]
    held_out_title = "held-out patients" if patients_known else "held-out images; patients unknown"
    return [held_out_title] if results["test"] is None else [held_out_title, "test"]


def _count_cell(column: dict) -> str:
    return f"{column['images']} ({column['positives']})"


def _value_cell(value: float | None) -> str:
    return format_metric(value).rjust(5)


def _interval_cell(figure: dict | None) -> str:
    """' .873 (.841–.902)', or ' .873' without an interval."""
    if figure is None or figure["low"] is None:
        return _value_cell(figure and figure["value"])
    return f"{_value_cell(figure['value'])} ({format_metric(figure['low'])}–{format_metric(figure['high'])})"


def _title_row(text: str, columns: int) -> Row:
    return (text, *("",) * columns)


def _box_rows(box_metrics: dict, columns: int) -> list[Row]:
    held_out, test = box_metrics["held_out"], box_metrics["test"]
    rows = [_title_row(f"**Chest boxes** (hand-drawn: {held_out.get('hand_boxes', '–')})", columns)]
    return rows + [
        (name, *(_value_cell(metrics.get(key)) for metrics in (held_out, test)[:columns]))
        for name, key in BOX_METRICS.items()
    ]


def _classifier_rows(results: dict, columns: list[dict]) -> list[Row]:
    used_stacker, configured_stacker = results["stacker"]["used"], results["stacker"]["asked"]
    rows = [_title_row("**Is there a pneumothorax?** AUC", len(columns))]
    for name in columns[0]["members"]:
        title = "the segmenters' maps" if name == MAPS else f"classifier {name}"
        rows.append((title, *(_value_cell(column["members"][name]["auc"]) for column in columns)))
    for kind, name in STACKER_TITLES.items():
        column_names = [COLUMN_NAMES[key] for key in results["stacker"]["lightgbm_columns"]]
        name += f": {', '.join(column_names)}" if kind == "lightgbm" else ""
        if kind == configured_stacker:
            rows.append((f"{name} ← in use", *_interval_cells(columns, "auc")))
        else:
            name += " ← best for the test" if kind == used_stacker else ""
            rows.append((name, *(_value_cell(column["stackers"][kind]["auc"]) for column in columns)))
    if configured_stacker == "auto":
        rows.append(("in use: in each fold the best of the others", *_interval_cells(columns, "auc")))
    rows.append(("in use, folds pooled", *_interval_cells(columns, "auc_pooled")))
    return rows + _size_rows(columns, "in use, {} lesions", "auc")


def _interval_cells(columns: list[dict], name: str) -> list[str]:
    return [_interval_cell(column["panel"]["all"].get(name)) for column in columns]


def _size_rows(columns: list[dict], title: str, name: str) -> list[Row]:
    return [
        (title.format(third), *(_interval_cell(column["panel"]["size"].get(third, {}).get(name)) for column in columns))
        for third in THIRDS
    ]


def _probability_rows(results: dict, columns: list[dict]) -> list[Row]:
    before_cells = [_value_cell(results["calibration"]["before"][name]) for name in ("log_loss", "calibration_error")]
    empty_cells = ("–".rjust(5),) * (len(columns) - 1)
    return [
        _title_row("**How sure?** In use", len(columns)),
        ("log-loss", *_interval_cells(columns, "log_loss")),
        (f"the same, before calibration ({results['calibration']['kind']})", before_cells[0], *empty_cells),
        ("log-loss of its members' mean", *(_value_cell(c["stackers"]["mean"]["log_loss"]) for c in columns)),
        ("calibration error", *_interval_cells(columns, "calibration_error")),
        ("the same, before calibration", before_cells[1], *empty_cells),
        *((f"at the gate, {name}", *_interval_cells(columns, name)) for name in ("sensitivity", "specificity")),
        *_zone_rows(columns),
    ]


def _zone_rows(columns: list[dict]) -> list[Row]:
    if "zone" not in columns[0]:
        return []
    names = {"set_aside": "inconclusive zone, share set aside", "accuracy": "accuracy on the rest"}
    return [(name, *(_value_cell(column["zone"][key]) for column in columns)) for key, name in names.items()]


def _mask_rows(results: dict, columns: list[dict]) -> list[Row]:
    if "kaggle_dice" not in columns[0]:
        return []
    return [
        _title_row("**Where is it?** Dice", len(columns)),
        ("Kaggle's mean (empty on empty is 1)", *_interval_cells(columns, "kaggle_dice")),
        ("floor: every mask empty", *_interval_cells(columns, "floor")),
        ("above .5, without decision or gate", *(_value_cell(c["plain_dice"]) for c in columns)),
        *_gain_rows(results, columns),
        ("images with a pneumothorax only", *_interval_cells(columns, "positives_dice")),
        ("the same, above .5, without gate", *(_value_cell(c["plain_positives_dice"]) for c in columns)),
        *_size_rows(columns, "{} lesions only", "positives_dice"),
        *_plain_mean_rows(results["plain_mean"], columns),
    ]


def _plain_mean_rows(plain_mean: dict | None, columns: list[dict]) -> list[Row]:
    """The scores of the mean map, if the mask stacker is in use."""
    if plain_mean is None:
        return []
    part_scores = [plain_mean[scores] for scores in ("held_out", "test")][: len(columns)]
    names = {
        "kaggle_dice": "the members' mean map in place of the mask stacker",
        "positives_dice": "the same, images with a pneumothorax only",
    }
    return [(name, *(_value_cell(scores[key]) for scores in part_scores)) for key, name in names.items()]


def _gain_rows(results: dict, columns: list[dict]) -> list[Row]:
    """Gain of the chosen thresholds in Dice, each fold's chosen on the others."""
    gain = (results["search"] or {}).get("gain_over_plain")
    if gain is None:
        return []
    return [("gained by the decision over above .5, nested", _value_cell(gain), *("–".rjust(5),) * (len(columns) - 1))]


def build_footnotes(results: dict) -> str:
    """How the intervals are made, leakage, and how much the thresholds differ between folds."""
    lines = [
        _describe_intervals(results["panel"]),
        leakage.describe_leakage(results["leaks"]),
        *_describe_operating_point(results["operating_point"]),
    ]
    return "".join(textwrap.fill(line, WIDTH) + "\n" for line in (*lines, *_describe_search(results["search"] or {})))


def _describe_intervals(panel: dict) -> str:
    panel_parts = {"held-out": panel["held_out"], "test": panel["test"]}
    resampling_of_part = {name: panel_part["resampled"] for name, panel_part in panel_parts.items() if panel_part}
    resampling = (
        next(iter(resampling_of_part.values()))
        if len(set(resampling_of_part.values())) == 1
        else ", ".join(f"{k} {v}" for k, v in resampling_of_part.items())
    )
    return f"In brackets: 95 % intervals of {panel['resamples']} resamples, {resampling}."


def _describe_operating_point(operating_point: dict | None) -> list[str]:
    """The target of the operating point, and the rates on images that it was not chosen on."""
    target = {name: value for name, value in (operating_point or {}).get("target", {}).items() if name != "kaggle_dice"}
    if not target:
        return []
    target_text, reached_text = (", ".join(f"{name.replace('_', ' ')} {format_metric(v)}" for name, v in rates.items())
                 for rates in (target, operating_point["held_out"]))  # fmt: skip
    return [f"The gate is for {target_text}; chosen nested it has {reached_text}."]


def _describe_search(search_record: dict) -> list[str]:
    """The ranges of the folds' thresholds, and of all thresholds that are as good on all held-out images."""
    nested_by = search_record.get("by")
    headings = {
        "fold_spread": f"Decisions from {nested_by} to {nested_by}:",
        "near_optimal_range": "Within .001 of the best Dice on all held-out images:",
    }
    return [
        f"{heading} {_format_ranges(search_record[key])}."
        for key, heading in headings.items()
        if search_record.get(key)
    ]


def _format_ranges(ranges: dict) -> str:
    varying_ranges = {name: ends for name, ends in ranges.items() if ends[0] != ends[1]}
    texts = [
        f"{name.replace('_', ' ')} {' to '.join(_format_parameter(name, end) for end in varying_ranges[name])}"
        for name in varying_ranges
    ]
    return ", ".join(texts) or "one and the same"


def _format_parameter(name: str, value: float) -> str:
    return f"{value:.0f}" if name in ("min_area", "min_component_area") else format_metric(value)


def _align_rows(rows: list[Row]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [_format_row(row, widths) for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _format_row(row: Row, widths: list[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"


if __name__ == "__main__":
    run_main(main)
