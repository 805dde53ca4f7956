"""The metrics that are a ratio of two sums over images: means, rates, Dice, IoU, lesions, values at the gate."""

import numpy as np
import pandas as pd

from cxr.metrics import dice_of_areas
from cxr.panel.resample import blocks

LEAST_PROB = 1e-7  # as cxr.metrics.log_loss clips

Terms = dict[str, tuple[np.ndarray, np.ndarray]]
"""name -> the sums' terms of each image: above and below the line, [n] each."""


def of_probabilities(cases: pd.DataFrame) -> Terms:
    """Brier score, log-loss (nats); sensitivity and specificity at the decision's gate."""
    label, prob, positive = (cases[name].to_numpy(float) for name in ("label", "prob", "positive"))
    clipped = np.clip(prob, LEAST_PROB, 1 - LEAST_PROB)
    one = np.ones(len(cases))
    return {
        "brier": ((prob - label) ** 2, one),
        "log_loss": (-np.where(label > 0.5, np.log(clipped), np.log1p(-clipped)), one),
        "sensitivity": (label * positive, label),
        "specificity": ((1 - label) * (1 - positive), 1 - label),
    }


def of_masks(cases: pd.DataFrame) -> Terms:
    """Dice in both meanings with its floor, IoU, lesions found, false parts per image, surface distance.

    kaggle_dice and nsd: the mean over all images; positives_*: over those with a lesion; lesion_sensitivity: of all
    lesions of all images, the share that the mask touches; false_parts_per_image: parts of the mask that touch none.
    """
    label, nsd = cases["label"].to_numpy(float), cases["nsd"].to_numpy(float)
    truth, found, overlap = (cases[name].to_numpy(float) for name in ("truth", "found", "overlap"))
    dice, one = dice_of_areas(truth, found, overlap), np.ones(len(cases))
    return {
        "kaggle_dice": (dice, one),
        "floor": (1 - label, one),
        "positives_dice": (dice * label, label),
        "positives_iou": (dice / (2 - dice) * label, label),
        "lesion_sensitivity": (cases["hit"].to_numpy(float), cases["lesions"].to_numpy(float)),
        "false_parts_per_image": (cases["extra"].to_numpy(float), one),
        "nsd": (nsd, one),
        "positives_nsd": (nsd * label, label),
    }


def resampled(terms: np.ndarray, patient: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums of terms [k, n] over the images in every resample, [k, r]: by patient first, then one product."""
    by_patient = np.array([np.bincount(patient, row, minlength=counts.shape[1]) for row in terms])
    parts = [counts[block].astype(np.float64) @ by_patient.T for block in blocks(counts, counts.shape[1])]
    return np.concatenate(parts).T


def ratios(terms: Terms, patient: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric in every resample [r]; nan where nothing is below the line."""
    sums = resampled(np.array([row for pair in terms.values() for row in pair]), patient, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return dict(zip(terms, sums[::2] / sums[1::2], strict=True))


def predictive(sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float) -> dict[str, np.ndarray]:
    """Positive and negative predictive value where the share `prevalence` is ill (Bayes); nan for 0 / 0."""
    right, wrong = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    well, missed = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"ppv": right / (right + wrong), "npv": well / (well + missed)}
