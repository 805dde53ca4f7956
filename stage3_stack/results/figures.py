"""The figures of the closing table, of held-out images and, where its truth is known, of the test."""

import numpy as np
import pandas as pd

from evaluation import metric_list, metrics, resampling
from evaluation.panel import PARTS
from stage3_stack.stacking.cross_fitting import KINDS
from stage3_stack.stacking.out_of_fold import member_column
from stage3_stack.stacking.stacker_choice import fold_mean_auc

HEADLINE = (
    "auc", "auc_pooled", "log_loss", "brier", "calibration_error", "sensitivity", "specificity", "kaggle_dice", "floor",
    "positives_dice",
)  # fmt: skip
BY_SIZE = ("auc", "positives_dice")
RESAMPLES, SEED = 2000, 1  # as the panel's: its calibration error is the one after


def score_classification(rows: pd.DataFrame, members: list[str]) -> dict:
    """AUC and log-loss of members, stackers and the stack in use, and the rates at its probability threshold.

    rows: columns of tables.CASES, and one of probabilities for each member and stacker; members: their names. An AUC is
    the mean over folds, as in the panel, and is None if no head scored both classes.

    Returns members and stackers (auc, log_loss by name), stack (auc, log_loss), sensitivity, specificity.
    """
    labels, positive = rows["label"].to_numpy(float), rows["positive"].to_numpy(bool)

    def score_column(column: str) -> dict:
        return {"auc": fold_mean_auc(rows, column), "log_loss": metrics.log_loss(labels, rows[column].to_numpy(float))}

    return {
        "members": {name: score_column(member_column(name)) for name in members},
        "stackers": {kind: score_column(kind) for kind in KINDS},
        "stack": score_column("prob"),
        "sensitivity": _share_of_true(positive[labels == 1]),
        "specificity": _share_of_true(~positive[labels == 0]),
    }


def _share_of_true(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def score_segmentation(rows: pd.DataFrame, plain_rows: pd.DataFrame) -> dict:
    """Dice of the final masks, in both meanings, and of two references: empty masks, and every pixel above .5.

    rows, plain_rows: truth, found and overlap, in the originals' pixels, of the final masks and of those above .5.

    Returns kaggle_dice, floor (of empty masks), plain_dice, positives_dice, plain_positives_dice, drawn (masks that are
    not empty).
    """
    dice_values, labels = dice_of_rows(rows), (rows["truth"] > 0).to_numpy()
    return {
        "kaggle_dice": metrics.kaggle_dice(dice_values),
        "floor": metrics.empty_submission_dice(labels),
        "plain_dice": metrics.kaggle_dice(dice_of_rows(plain_rows)),
        "positives_dice": metrics.positives_dice(labels, dice_values),
        "plain_positives_dice": metrics.positives_dice(labels, dice_of_rows(plain_rows)),
        "drawn": int((rows["found"] > 0).sum()),
    }


def dice_of_rows(rows: pd.DataFrame) -> np.ndarray:
    """Dice of each image, [n]."""
    return metrics.dice_of_areas(*(rows[name].to_numpy() for name in ("truth", "found", "overlap")))


def count_images(labels: np.ndarray) -> dict[str, int]:
    """images, and how many of them are positives; labels [n] of 0 or 1."""
    return {"images": len(labels), "positives": int((np.asarray(labels) == 1).sum())}


def score_calibration(rows: pd.DataFrame, kind: str) -> dict:
    """Log-loss, Brier score and calibration error, before and after calibration.

    rows: the held-out images, each scored by a head that was calibrated without it; kind: of calibration.

    Returns kind, before and after, each with log_loss, brier, calibration_error (less its bias) and
    calibration_error_counted (with it).
    """
    patient, _ = resampling.number_patients(rows)
    resample_counts = resampling.draw_resamples(int(patient.max()) + 1, RESAMPLES, SEED)

    def score_column(column: str) -> dict:
        labels, probs = (rows[name].to_numpy(float) for name in ("label", column))
        scores = {"log_loss": metrics.log_loss(labels, probs), "brier": float(np.mean((probs - labels) ** 2))}
        error = metric_list.estimate_calibration_error(rows.assign(prob=probs), patient, resample_counts)
        return scores | {"calibration_error": error["value"], "calibration_error_counted": error["counted"]}

    return {"kind": kind, "before": score_column("uncalibrated"), "after": score_column("prob")}


def select_headline(panel: dict) -> dict:
    """The part of the panel that the table prints: metrics of all images, and by size of the pneumothorax."""
    return {"resamples": panel["resamples"]} | {name: panel[name] and _headline_of_part(panel[name]) for name in PARTS}


def _headline_of_part(panel_part: dict) -> dict:
    group_counts = {name: panel_part[name] for name in ("images", "positives", "patients", "resampled")}
    sizes = {size: _pick_figures(size_figures, BY_SIZE) for size, size_figures in panel_part["by"]["size"].items()}
    return group_counts | {"all": _pick_figures(panel_part["all"], HEADLINE), "size": sizes}


def _pick_figures(all_figures: dict, names: tuple[str, ...]) -> dict:
    return {name: all_figures[name] for name in names if name in all_figures}
