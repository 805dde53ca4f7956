"""The metrics that are a ratio of two sums over images: means, rates, Dice, IoU, lesions, values at the gate."""

import numpy as np
import pandas as pd

from evaluation.metrics import dice_of_areas
from evaluation.resampling import split_into_blocks

MIN_PROB = 1e-7  # as evaluation.metrics.log_loss clips

Terms = dict[str, tuple[np.ndarray, np.ndarray]]
"""name -> the sums' terms of each image: above and below the line, [n] each."""


def build_probability_terms(cases: pd.DataFrame) -> Terms:
    """Brier score, log-loss (nats); sensitivity and specificity at the decision's gate."""
    label, prob, positive = (cases[name].to_numpy(float) for name in ("label", "prob", "positive"))
    clipped = np.clip(prob, MIN_PROB, 1 - MIN_PROB)
    ones = np.ones(len(cases))
    return {
        "brier": ((prob - label) ** 2, ones),
        "log_loss": (-np.where(label > 0.5, np.log(clipped), np.log1p(-clipped)), ones),
        "sensitivity": (label * positive, label),
        "specificity": ((1 - label) * (1 - positive), 1 - label),
    }


def build_mask_terms(cases: pd.DataFrame) -> Terms:
    """Dice in both meanings with its floor, IoU, lesions found, false parts per image, surface distance.

    kaggle_dice and nsd: the mean over all images; positives_*: over those with a lesion; lesion_sensitivity: of all
    lesions of all images, the share that the mask touches; false_parts_per_image: parts of the mask that touch none.
    """
    label, nsd = cases["label"].to_numpy(float), cases["nsd"].to_numpy(float)
    truth, predicted, overlap = (cases[name].to_numpy(float) for name in ("truth", "found", "overlap"))
    dice, ones = dice_of_areas(truth, predicted, overlap), np.ones(len(cases))
    return {
        "kaggle_dice": (dice, ones),
        "floor": (1 - label, ones),
        "positives_dice": (dice * label, label),
        "positives_iou": (dice / (2 - dice) * label, label),
        "lesion_sensitivity": (cases["hit"].to_numpy(float), cases["lesions"].to_numpy(float)),
        "false_parts_per_image": (cases["extra"].to_numpy(float), ones),
        "nsd": (nsd, ones),
        "positives_nsd": (nsd * label, label),
    }


def sum_over_resamples(terms: np.ndarray, patient: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums of terms [k, n] over the images in every resample, [k, r]: by patient first, then one product."""
    by_patient = np.array([np.bincount(patient, row, minlength=counts.shape[1]) for row in terms])
    block_sums = [
        counts[block].astype(np.float64) @ by_patient.T for block in split_into_blocks(counts, counts.shape[1])
    ]
    return np.concatenate(block_sums).T


def compute_ratios(terms: Terms, patient: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric in every resample [r]; nan where nothing is below the line."""
    sums = sum_over_resamples(np.array([row for pair in terms.values() for row in pair]), patient, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return dict(zip(terms, sums[::2] / sums[1::2], strict=True))


def compute_predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float
) -> dict[str, np.ndarray]:
    """Positive and negative predictive value where the share `prevalence` is ill (Bayes); nan for 0 / 0."""
    true_positives, false_positives = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    true_negatives, false_negatives = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ppv": true_positives / (true_positives + false_positives),
            "npv": true_negatives / (true_negatives + false_negatives),
        }
