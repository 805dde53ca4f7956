"""The closing table: boxes, classifiers, stack and masks, on held-out images and on a known test."""

import textwrap

import numpy as np
import pandas as pd

from cxr import boxes, recipe, runs
from cxr.errors import UsageError, run_main
from cxr.files import write_json, write_text
from cxr.geometry import iou
from cxr.metrics import THIRDS, shown
from cxr.paths import Paths
from cxr.recipe import Recipe
from stage3_stack import leakage
from stage3_stack.config import STEP
from stage3_stack.data import MAPS

NAMES = {
    "mean": "mean of the members' logits", "logistic": "logistic stack of the logits",
    "lightgbm": "LightGBM", "dense": "dense head on their features",
}  # fmt: skip
SEEN = {"pca": "features", "header": "age, sex, view", "box": "box", "masks": "maps"}
BOXES = {
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
SAW = {"fold": "the networks of the other folds saw", "subfold": "the heads of the other subfolds saw"}
Row = tuple[str, ...]
WIDTH = 108


def main() -> None:
    """Command: print the closing table of the chosen recipe's run, and write results.md and results.json."""
    chosen, paths = recipe.chosen()
    text, results = closing(chosen, paths)
    write_text(paths.run / "results.md", text)
    write_json(paths.run / "results.json", results)
    print(text)


def closing(chosen: Recipe, paths: Paths) -> tuple[str, dict]:
    """The table as text, and the figures in it."""
    found = runs.metrics(paths.stage3)
    if found is None:
        raise UsageError(f"{paths.stage3 / 'run.json'} is missing; it is made by: {STEP}")
    if "panel" not in found:
        raise UsageError(f"{paths.stage3 / 'run.json'} is of an earlier version; make it anew: {STEP}")
    of_boxes = {"held_out": runs.metrics(paths.stage0) or {}, "test": boxes_on_test(paths)}
    results = {"recipe": chosen.name, "dataset": paths.dataset, "boxes": of_boxes} | found
    note = NOTE.format(seen=SAW[results["nested_by"]])
    return f"# {chosen.name} on {paths.dataset}\n\n{rendered(results)}\n{beneath(results)}\n{note}", results


def boxes_on_test(paths: Paths) -> dict:
    """Mean IoU of the written boxes with the phantoms' own on the test images, where the data has those."""
    path = paths.data / "test-boxes.csv"
    if not (path.is_file() and paths.boxes.is_file()):
        return {}
    truth, found = boxes.by_image(pd.read_csv(path)), boxes.read(paths.boxes)
    keys = sorted(truth.keys() & found.keys())
    overlap = iou(np.array([truth[key] for key in keys]), np.array([found[key] for key in keys]))
    return {"iou_with_margin": float(overlap.mean())} if keys else {}


def rendered(results: dict) -> str:
    """The table, in Markdown that reads well as it stands."""
    columns = [results[name] | {"panel": results["panel"][name]} for name in ("held_out", "test") if results[name]]
    header = [("", *_titles(results)), ("images (with a pneumothorax)", *map(_described, columns))]
    rows = [*_boxes(results["boxes"], len(columns)), *_classifiers(results, columns)]
    return _aligned([*header, *rows, *_probabilities(results, columns), *_masks(results, columns)])


def _titles(results: dict) -> list[str]:
    known = results["patients_known"]
    first = "held-out patients" if known else "held-out images; patients unknown"
    return [first] if results["test"] is None else [first, "test"]


def _described(column: dict) -> str:
    return f"{column['images']} ({column['positives']})"


def _value(value: float | None) -> str:
    return shown(value).rjust(5)


def _interval(figure: dict | None) -> str:
    """' .873 (.841–.902)', without interval where it has none."""
    if figure is None or figure["low"] is None:
        return _value(figure and figure["value"])
    return f"{_value(figure['value'])} ({shown(figure['low'])}–{shown(figure['high'])})"


def _title(text: str, columns: int) -> Row:
    return (text, *("",) * columns)


def _boxes(found: dict, columns: int) -> list[Row]:
    held, test = found["held_out"], found["test"]
    rows = [_title(f"**Chest boxes** (hand-drawn: {held.get('hand_boxes', '–')})", columns)]
    return rows + [(name, *(_value(part.get(key)) for part in (held, test)[:columns])) for name, key in BOXES.items()]


def _classifiers(results: dict, columns: list[dict]) -> list[Row]:
    used, asked = results["stacker"]["used"], results["stacker"]["asked"]
    rows = [_title("**Is there a pneumothorax?** AUC", len(columns))]
    for name in columns[0]["members"]:
        title = "the segmenters' maps" if name == MAPS else f"classifier {name}"
        rows.append((title, *(_value(c["members"][name]["auc"]) for c in columns)))
    for kind, name in NAMES.items():
        seen = [SEEN[column] for column in results["stacker"]["lightgbm_columns"]]
        name += f": {', '.join(seen)}" if kind == "lightgbm" else ""
        if kind == asked:
            rows.append((f"{name} ← in use", *_all(columns, "auc")))
        else:
            name += " ← best for the test" if kind == used else ""
            rows.append((name, *(_value(c["stackers"][kind]["auc"]) for c in columns)))
    if asked == "auto":
        rows.append(("in use: in each fold the best of the others", *_all(columns, "auc")))
    rows.append(("in use, folds pooled", *_all(columns, "auc_pooled")))
    return rows + _by_size(columns, "in use, {} lesions", "auc")


def _all(columns: list[dict], name: str) -> list[str]:
    return [_interval(column["panel"]["all"].get(name)) for column in columns]


def _by_size(columns: list[dict], title: str, name: str) -> list[Row]:
    return [
        (title.format(third), *(_interval(c["panel"]["size"].get(third, {}).get(name)) for c in columns))
        for third in THIRDS
    ]


def _probabilities(results: dict, columns: list[dict]) -> list[Row]:
    before = [_value(results["calibration"]["before"][name]) for name in ("log_loss", "calibration_error")]
    empty = ("–".rjust(5),) * (len(columns) - 1)
    return [
        _title("**How sure?** In use", len(columns)),
        ("log-loss", *_all(columns, "log_loss")),
        (f"the same, before calibration ({results['calibration']['kind']})", before[0], *empty),
        ("log-loss of its members' mean", *(_value(c["stackers"]["mean"]["log_loss"]) for c in columns)),
        ("calibration error", *_all(columns, "calibration_error")),
        ("the same, before calibration", before[1], *empty),
        *((f"at the gate, {name}", *_all(columns, name)) for name in ("sensitivity", "specificity")),
        *_zone(columns),
    ]


def _zone(columns: list[dict]) -> list[Row]:
    if "zone" not in columns[0]:
        return []
    names = {"set_aside": "inconclusive zone, share set aside", "accuracy": "accuracy on the rest"}
    return [(name, *(_value(column["zone"][key]) for column in columns)) for key, name in names.items()]


def _masks(results: dict, columns: list[dict]) -> list[Row]:
    if "kaggle_dice" not in columns[0]:
        return []
    return [
        _title("**Where is it?** Dice", len(columns)),
        ("Kaggle's mean (empty on empty is 1)", *_all(columns, "kaggle_dice")),
        ("floor: every mask empty", *_all(columns, "floor")),
        ("above .5, without decision or gate", *(_value(c["plain_dice"]) for c in columns)),
        *_gain(results, columns),
        ("images with a pneumothorax only", *_all(columns, "positives_dice")),
        ("the same, above .5, without gate", *(_value(c["plain_positives_dice"]) for c in columns)),
        *_by_size(columns, "{} lesions only", "positives_dice"),
        *_plain_mean(results["plain_mean"], columns),
    ]


def _plain_mean(found: dict | None, columns: list[dict]) -> list[Row]:
    """What the mean map scores, beside the mask stacker in use."""
    if found is None:
        return []
    parts = [found[part] for part in ("held_out", "test")][: len(columns)]
    names = {
        "kaggle_dice": "the members' mean map in place of the mask stacker",
        "positives_dice": "the same, images with a pneumothorax only",
    }
    return [(name, *(_value(part[key]) for part in parts)) for key, name in names.items()]


def _gain(results: dict, columns: list[dict]) -> list[Row]:
    """What the chosen thresholds and gate are worth, each fold's chosen on the others."""
    gain = (results["search"] or {}).get("gain_over_plain")
    if gain is None:
        return []
    return [("gained by the decision over above .5, nested", _value(gain), *("–".rjust(5),) * (len(columns) - 1))]


def beneath(results: dict) -> str:
    """What one must know to read the figures: how the intervals are made, leaks, how far the thresholds wander."""
    lines = [_intervals(results["panel"]), leakage.described(results["leaks"]), *_point(results["operating_point"])]
    return "".join(textwrap.fill(line, WIDTH) + "\n" for line in (*lines, *_thresholds(results["search"] or {})))


def _intervals(panel: dict) -> str:
    parts = {"held-out": panel["held_out"], "test": panel["test"]}
    ways = {name: part["resampled"] for name, part in parts.items() if part}
    how = next(iter(ways.values())) if len(set(ways.values())) == 1 else ", ".join(f"{k} {v}" for k, v in ways.items())
    return f"In brackets: 95 % intervals of {panel['resamples']} resamples, {how}."


def _point(found: dict | None) -> list[str]:
    """What the gate was asked to have, and has on images that it was not chosen on."""
    asked = {name: value for name, value in (found or {}).get("asked", {}).items() if name != "kaggle_dice"}
    if not asked:
        return []
    told, has = (", ".join(f"{name.replace('_', ' ')} {shown(v)}" for name, v in part.items())
                 for part in (asked, found["held_out"]))  # fmt: skip
    return [f"The gate is for {told}; chosen nested it has {has}."]


def _thresholds(search: dict) -> list[str]:
    """How far the decisions of the folds lie apart, and those that are as good on all held-out images."""
    by = search.get("by")
    named = {"wander": f"Decisions from {by} to {by}:", "flat": "Within .001 of the best Dice on all held-out images:"}
    return [f"{words} {_ranges(search[key])}." for key, words in named.items() if search.get(key)]


def _ranges(found: dict) -> str:
    moved = {name: ends for name, ends in found.items() if ends[0] != ends[1]}
    texts = [f"{name.replace('_', ' ')} {' to '.join(_number(name, end) for end in moved[name])}" for name in moved]
    return ", ".join(texts) or "one and the same"


def _number(name: str, value: float) -> str:
    return f"{value:.0f}" if name in ("least_area", "least_component") else shown(value)


def _aligned(rows: list[Row]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _line(row: Row, widths: list[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"


if __name__ == "__main__":
    run_main(main)
