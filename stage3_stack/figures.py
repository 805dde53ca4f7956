"""The figures of the closing table, for held-out images and, where its truth is known, for the test."""

import numpy as np
import pandas as pd

from cxr import metrics
from cxr.panel import PARTS, measure, resample
from stage3_stack.combine import auc, member
from stage3_stack.stack import KINDS

HEADLINE = (
    "auc", "auc_pooled", "log_loss", "brier", "calibration_error", "sensitivity", "specificity", "kaggle_dice", "floor",
    "positives_dice",
)  # fmt: skip
BY_SIZE = ("auc", "positives_dice")
RESAMPLES, SEED = 2000, 1  # as the panel's: its calibration error is the one after


def classification(rows: pd.DataFrame, members: list[str]) -> dict:
    """AUC and log-loss of members, stackers and the stack in use; what the gate makes of it.

    rows: columns of tables.CASES, and one of probabilities for each member and stacker. An AUC is the mean over folds,
    as in the panel, and is None where no head scored both classes.
    """
    labels, positive = rows["label"].to_numpy(float), rows["positive"].to_numpy(bool)

    def judged(column: str) -> dict:
        return {"auc": auc(rows, column), "log_loss": metrics.log_loss(labels, rows[column].to_numpy(float))}

    return {
        "members": {name: judged(member(name)) for name in members},
        "stackers": {kind: judged(kind) for kind in KINDS},
        "stack": judged("prob"),
        "sensitivity": _share(positive[labels == 1]),
        "specificity": _share(~positive[labels == 0]),
    }


def _share(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def segmentation(rows: pd.DataFrame, plain: pd.DataFrame) -> dict:
    """Dice in both meanings, in the originals' pixels, beside what an empty and an unchosen answer score.

    rows, plain: truth, found and overlap of the same images' masks.
    """
    dices, labels = dice(rows), (rows["truth"] > 0).to_numpy()
    return {
        "kaggle_dice": metrics.kaggle_dice(dices),
        "floor": metrics.floor(labels),
        "plain_dice": metrics.kaggle_dice(dice(plain)),
        "positives_dice": metrics.positives_dice(labels, dices),
        "plain_positives_dice": metrics.positives_dice(labels, dice(plain)),
        "drawn": int((rows["found"] > 0).sum()),
    }


def dice(rows: pd.DataFrame) -> np.ndarray:
    """Dice of each image, [n]."""
    return metrics.dice_of_areas(*(rows[name].to_numpy() for name in ("truth", "found", "overlap")))


def described(labels: np.ndarray) -> dict[str, int]:
    """How many images, how many of them positive."""
    return {"images": len(labels), "positives": int((np.asarray(labels) == 1).sum())}


def calibration(rows: pd.DataFrame, kind: str) -> dict:
    """Log-loss, Brier score and calibration error (less its bias, and as counted) before and after calibration.

    rows: the held-out images, each scored by what was calibrated without it; kind: of calibration.
    """
    patient, _ = resample.patients(rows)
    counts = resample.draw(int(patient.max()) + 1, RESAMPLES, SEED)

    def judged(column: str) -> dict:
        labels, probs = (rows[name].to_numpy(float) for name in ("label", column))
        found = {"log_loss": metrics.log_loss(labels, probs), "brier": float(np.mean((probs - labels) ** 2))}
        error = measure.calibration_error(rows.assign(prob=probs), patient, counts)
        return found | {"calibration_error": error["value"], "calibration_error_counted": error["counted"]}

    return {"kind": kind, "before": judged("uncalibrated"), "after": judged("prob")}


def headline(panel: dict) -> dict:
    """Of the whole panel what the table prints: of all images, and by size of the pneumothorax."""
    return {"resamples": panel["resamples"]} | {name: panel[name] and _headline(panel[name]) for name in PARTS}


def _headline(part: dict) -> dict:
    about = {name: part[name] for name in ("images", "positives", "patients", "resampled")}
    sizes = {size: _some(found, BY_SIZE) for size, found in part["by"]["size"].items()}
    return about | {"all": _some(part["all"], HEADLINE), "size": sizes}


def _some(found: dict, names: tuple[str, ...]) -> dict:
    return {name: found[name] for name in names if name in found}
