"""All metrics of a set of cases in every resample."""

import numpy as np
import pandas as pd

from cxr.panel import calibration, ranking, ratios
from cxr.panel.intervals import Draws, amount, share
from cxr.panel.ranking import SENSITIVITIES, SPECIFICITIES

CURVE = ("auc", "auc_pooled", "average_precision", *SPECIFICITIES, *SENSITIVITIES)
AMOUNTS = ("log_loss", "false_parts_per_image")
PREDICTIVE = ("ppv", "npv")
CALIBRATION = "calibration_error"


def sampled(cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray, prevalence: float) -> dict[str, np.ndarray]:
    """name -> the metric in the sample (place 0) and in every resample, [1 + resamples]; not the calibration error.

    patient [n], counts [1 + resamples, patients]: of `resample`. Without masks (no nsd) there are no figures of them.
    """
    label, prob, fold, head = (cases[name].to_numpy() for name in ("label", "prob", "fold", "head"))
    found = {"auc": ranking.auc_of_folds(label, prob, fold, head, patient, counts)}
    found |= ranking.curve(label, prob, patient, counts)
    terms = ratios.of_probabilities(cases) | (ratios.of_masks(cases) if has_masks(cases) else {})
    found |= ratios.ratios(terms, patient, counts)
    return found | ratios.predictive(found["sensitivity"], found["specificity"], prevalence)


def has_masks(cases: pd.DataFrame) -> bool:
    """Whether masks were judged: the surface distance is known."""
    return bool(cases["nsd"].notna().all())


def draws(name: str, sampled: np.ndarray, bearers: dict[str, int]) -> Draws:
    """A metric's draws, with the number of patients that it rests on (of `bearers`)."""
    return Draws(float(sampled[0]), sampled[1:], bearers.get(name, bearers["all"]))


def bearers(cases: pd.DataFrame, patient: np.ndarray) -> dict[str, int]:
    """How many patients each metric rests on; those that are not named, on all."""
    positive = cases["label"].to_numpy() > 0.5
    ill, well = (len(np.unique(patient[rows])) for rows in (positive, ~positive))
    of_ill = ("sensitivity", "positives_dice", "positives_iou", "positives_nsd", "lesion_sensitivity")
    both = (*CURVE, *PREDICTIVE)
    found = {"all": len(np.unique(patient)), "specificity": well}
    return found | dict.fromkeys(of_ill, ill) | dict.fromkeys(both, min(ill, well))


def figure(name: str, found: Draws) -> dict:
    """value, low and high of a metric; low and high None where it has no interval, all None where it is undefined."""
    if not found.usable:
        value = found.value if np.isfinite(found.value) else None
        return {"value": value, "low": None, "high": None}
    low, high = amount(found) if name in AMOUNTS else share(found)
    return {"value": found.value, "low": low, "high": high}


def figures(cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray, prevalence: float) -> dict[str, dict]:
    """name -> value, low, high of every metric of the cases (`figure`)."""
    resting = bearers(cases, patient)
    values = sampled(cases, patient, counts, prevalence)
    found = {name: figure(name, draws(name, row, resting)) for name, row in values.items()}
    return found | {CALIBRATION: calibration_error(cases, patient, counts)}


def calibration_error(cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray) -> dict:
    """value (without bias), low, high; counted: the plain expected calibration error."""
    rows = calibration.differences(cases["label"].to_numpy(float), cases["prob"].to_numpy(float), patient, counts)
    value, low, high = calibration.inverted(rows, len(np.unique(patient)))
    return {"value": value, "low": low, "high": high, "counted": float(np.abs(rows[:, 0]).sum())}
