"""The closing table: boxes, classifiers, stack and masks, on held-out images and on a known test."""

import numpy as np
import pandas as pd

from cxr import boxes, recipe, runs
from cxr.errors import UsageError, run_main
from cxr.files import write_json, write_text
from cxr.geometry import iou
from cxr.metrics import THIRDS, shown
from cxr.paths import Paths
from cxr.recipe import Recipe
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
AUC is of pairs of images that the same head scored. Thirds are of lesion size; a third's AUC is
against all negatives. Dice is in the originals' pixels. Only the decision (stage3/decision.json)
is nested: the networks of the other folds saw the images by which it is judged.
Research use only; not a medical device.
"""
Row = tuple[str, ...]


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
    of_boxes = {"held_out": runs.metrics(paths.stage0) or {}, "test": boxes_on_test(paths)}
    results = {"recipe": chosen.name, "dataset": paths.dataset, "boxes": of_boxes} | found
    return f"# {chosen.name} on {paths.dataset}\n\n{rendered(results)}\n{NOTE}", results


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
    columns = [results["held_out"], results["test"]]
    columns = [column for column in columns if column is not None]
    header = [("", *_titles(results)), ("images (with a pneumothorax)", *map(_described, columns))]
    rows = [*_boxes(results["boxes"], len(columns)), *_classifiers(results, columns), *_masks(results, columns)]
    return _aligned([*header, *rows])


def _titles(results: dict) -> list[str]:
    known = results["patients_known"]
    first = "held-out patients" if known else "held-out images; patients unknown"
    return [first] if results["test"] is None else [first, "test"]


def _described(column: dict) -> str:
    return f"{column['images']} ({column['positives']})"


def _boxes(found: dict, columns: int) -> list[Row]:
    held, test = found["held_out"], found["test"]
    rows = [(f"**Chest boxes** (hand-drawn: {held.get('hand_boxes', '–')})", *("",) * columns)]
    return rows + [(name, *(shown(part.get(key)) for part in (held, test)[:columns])) for name, key in BOXES.items()]


def _classifiers(results: dict, columns: list[dict]) -> list[Row]:
    used, asked = results["stacker"]["used"], results["stacker"]["asked"]
    rows = [("**Is there a pneumothorax?** AUC", *("",) * len(columns))]
    for name in columns[0]["members"]:
        title = "the segmenters' maps" if name == MAPS else f"classifier {name}"
        rows.append((title, *(shown(c["members"][name]["auc"]) for c in columns)))
    for kind, name in NAMES.items():
        seen = [SEEN[column] for column in results["stacker"]["lightgbm_columns"]]
        name += f": {', '.join(seen)}" if kind == "lightgbm" else ""
        mark = "" if kind != used else " ← in use" + (" (chosen by auto)" if asked == "auto" else "")
        rows.append((name + mark, *(shown(c["stackers"][kind]["auc"]) for c in columns)))
    for third, name in enumerate(THIRDS):
        rows.append((f"in use, {name} lesions", *(shown(c["stack"]["auc_by_third"][third]) for c in columns)))
    rows.append(("in use, log-loss", *(shown(c["stack"]["log_loss"]) for c in columns)))
    rows.append(("its members' mean, log-loss", *(shown(c["stackers"]["mean"]["log_loss"]) for c in columns)))
    for name in ("sensitivity", "specificity"):
        rows.append((f"at the gate, {name}", *(shown(c[name]) for c in columns)))
    return rows + _zone(columns)


def _zone(columns: list[dict]) -> list[Row]:
    if "zone" not in columns[0]:
        return []
    names = {"set_aside": "inconclusive zone, share set aside", "accuracy": "accuracy on the rest"}
    return [(name, *(shown(column["zone"][key]) for column in columns)) for key, name in names.items()]


def _masks(results: dict, columns: list[dict]) -> list[Row]:
    if "kaggle_dice" not in columns[0]:
        return []
    names = {
        "kaggle_dice": "Kaggle's mean (empty on empty is 1)",
        "floor": "floor: every mask empty",
        "plain_dice": "above .5, without decision or gate",
        "positives_dice": "images with a pneumothorax only",
        "plain_positives_dice": "the same, above .5, without gate",
    }
    rows = [("**Where is it?** Dice", *("",) * len(columns))]
    rows += [(name, *(shown(column[key]) for column in columns)) for key, name in names.items()]
    for third, name in enumerate(THIRDS):
        rows.append((f"{name} lesions only", *(shown(c["positives_dice_by_third"][third]) for c in columns)))
    return rows + _plain_mean(results["plain_mean"], columns)


def _plain_mean(found: dict | None, columns: list[dict]) -> list[Row]:
    """What the mean map scores, beside the mask stacker in use."""
    if found is None:
        return []
    parts = [found[part] for part in ("held_out", "test")][: len(columns)]
    names = {
        "kaggle_dice": "the members' mean map in place of the mask stacker",
        "positives_dice": "the same, images with a pneumothorax only",
    }
    return [(name, *(shown(part[key]) for part in parts)) for key, name in names.items()]


def _aligned(rows: list[Row]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _line(row: Row, widths: list[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return f"| {' | '.join([row[0].ljust(widths[0]), *cells])} |"


if __name__ == "__main__":
    run_main(main)
