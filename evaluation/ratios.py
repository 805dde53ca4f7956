"""The metrics that are a ratio of two sums over images: means, rates, Dice, IoU, lesions, predictive values.

To add one, give it terms in `build_probability_terms` or `build_mask_terms`: its name, and of every image what it adds
to the numerator and to the denominator. CONTRIBUTING.md ('Add a metric') says what else it needs.
"""

import numpy as np
import pandas as pd

from evaluation.metrics import dice_of_areas
from evaluation.resampling import split_into_blocks

MIN_PROB = 1e-7  # as evaluation.metrics.log_loss clips

Terms = dict[str, tuple[np.ndarray, np.ndarray]]
"""Metric -> what each image adds to the numerator and to the denominator, float [n] each."""


def build_probability_terms(cases: pd.DataFrame) -> Terms:
    """Terms of the Brier score (Brier, Monthly Weather Review 1950), the log-loss (nats), sensitivity and specificity.

    Sensitivity and specificity are those at the probability threshold (column positive of tables.CASES).
    """
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
    """Terms of the metrics of masks, from columns of `mask_metrics.compare_masks`.

    kaggle_dice, nsd: mean over all images
    floor: kaggle_dice of a submission of empty masks
    positives_dice, positives_iou (= Dice / (2 - Dice)), positives_nsd: mean over the images with a lesion
    lesion_sensitivity: share of all lesions that the predicted mask touches
    false_parts_per_image: predicted parts that touch no lesion
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
    """Sums of terms [k, n] over the images in every resample, [k, r]: summed by patient, then one matrix product."""
    by_patient = np.array([np.bincount(patient, row, minlength=counts.shape[1]) for row in terms])
    block_sums = [
        counts[block].astype(np.float64) @ by_patient.T for block in split_into_blocks(counts, counts.shape[1])
    ]
    return np.concatenate(block_sums).T


def compute_ratios(terms: Terms, patient: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric in every resample [r]; nan where its denominator is 0."""
    sums = sum_over_resamples(np.array([row for pair in terms.values() for row in pair]), patient, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return dict(zip(terms, sums[::2] / sums[1::2], strict=True))


def compute_predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float
) -> dict[str, np.ndarray]:
    """ppv and npv at a prevalence (share of positives, 0 to 1), by Bayes' theorem; nan for 0 / 0."""
    true_positives, false_positives = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    true_negatives, false_negatives = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ppv": true_positives / (true_positives + false_positives),
            "npv": true_negatives / (true_negatives + false_negatives),
        }
