"""How often the panel's 95 % intervals hold the true value, measured on simulated cases whose true value is known.

    export OMP_NUM_THREADS=1               # every core has its own repetitions
    python -m bench.coverage [--images 300] [--repetitions 2000] [--resamples 1000] [--probabilities calibrated]
    python -m bench.coverage --paired      # differences between two models, as of pipeline.compare

A patient has two images on average (geometric). Images of a patient resemble each other in their true probability
and in the quality of their masks. A label is a Bernoulli draw with the true probability. The model reports this
probability as it is, over-confident, under-confident or shifted; the second model of a pair adds noise to its logit.
The true value of each metric is that of one sample of a million images. Printed for each metric, over the samples
that have an interval: the share whose interval holds the true value, the shares of intervals that lie wholly above and
wholly below it, and the share that plain percentiles of the same resamples hold.
"""

import time
from collections import defaultdict
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import tyro
from scipy.special import expit, ndtr
from scipy.stats import binom, poisson

from cxr.processes import map_unordered
from evaluation import calibration_error, metric_list, paired_differences, resampling
from evaluation.intervals import compute_percentile_interval

FOLDS = 5
PREVALENCE = 0.1
TRUTH_IMAGES = 1_000_000
"""Images that give the true values."""
REPORTING_MODELS = {
    "calibrated": (1.0, 0.0, 0.0), "overconfident": (1.6, 0.3, 0.0), "underconfident": (0.6, -0.2, 0.0),
    "shifted": (1.0, 0.8, 0.0), "rival": (1.0, 0.0, 1.0),
}  # fmt: skip
"""Slope and shift of the reported logit on the true one, and its noise."""


def sample_cases(rng: np.random.Generator, patients: int, probabilities: str) -> pd.DataFrame:
    """Simulated cases, with the columns of tables.CASES that the panel reads; `probabilities`: a REPORTING_MODELS."""
    patient = np.repeat(np.arange(patients), rng.geometric(0.5, patients))
    count, fold = len(patient), rng.integers(0, FOLDS, patients)[patient]
    patient_effects = rng.standard_normal((2, patients))[:, patient]
    logit = -1.9 + 1.5 * patient_effects[0] + 1.5 * rng.standard_normal(count)
    slope, shift, noise = REPORTING_MODELS[probabilities]
    (noise_rng,) = rng.spawn(1)  # so that both models of a pair have the same patients
    reported = slope * logit + shift + noise * noise_rng.standard_normal(count)
    table = {"image_id": np.arange(count).astype(str), "patient": patient.astype(str), "fold": fold, "head": fold}
    table |= {"label": (rng.random(count) < expit(logit)) * 1.0, "prob": expit(reported)}
    table["positive"] = table["prob"] >= 0.4
    return pd.DataFrame(table | sample_mask_counts(rng, table["label"] > 0.5, table["positive"], patient_effects[1]))


def sample_mask_counts(
    rng: np.random.Generator, has_lesion: np.ndarray, positive: np.ndarray, patient_effect: np.ndarray
) -> dict:
    """Pixel counts and lesions of predicted masks whose quality (0..1) is similar within a patient.

    rng: of the sample
    has_lesion: the label, bool [n]
    positive: predicted by the classifier, bool [n]; a mask that it does not call positive is empty
    patient_effect: standard normal, [n], equal within a patient
    Returns the columns truth, found, overlap (pixels), lesions, hit, extra (counts) and nsd (0..1), each [n].
    """
    count = len(has_lesion)
    quality = ndtr((patient_effect + rng.standard_normal(count)) / 2**0.5)
    truth = np.where(has_lesion, np.exp(rng.normal(9, 1, count)), 0).astype(int)
    has_mask = positive & (rng.random(count) < 0.9)
    area = np.where(has_lesion, truth * np.exp(rng.normal(0, 0.4, count)), 3000)
    predicted = np.where(has_mask, area, 0).astype(int)
    overlap = (np.minimum(truth, predicted) * quality).astype(int)
    lesions = np.where(has_lesion, 1 + poisson.ppf(rng.random(count), 0.5), 0).astype(int)
    hits = binom.rvs(lesions, np.where(has_mask, 0.3 + 0.7 * quality, 0), random_state=rng)
    extra_lesions = np.where(has_mask, poisson.rvs(0.3 + 0.4 * (1 - quality), random_state=rng), 0)
    nsd = np.where(has_lesion & has_mask, quality**2, np.where(has_lesion | has_mask, 0.0, 1.0))
    counts = {"truth": truth, "found": predicted, "overlap": overlap, "lesions": lesions, "hit": hits}
    return counts | {"extra": extra_lesions + (has_mask & ~has_lesion), "nsd": nsd}


def compute_true_values(probabilities: str) -> dict[str, float]:
    """Each metric of a sample so large that chance is far smaller than the width of an interval."""
    table = sample_cases(np.random.default_rng(0), TRUTH_IMAGES // 2, probabilities)
    patient, single_count = np.zeros(len(table), int), np.ones((1, 1), np.uint8)
    rows_by_metric = metric_list.resample_metrics(table, patient, single_count, PREVALENCE)
    values = {name: float(row[0]) for name, row in rows_by_metric.items()}
    bin_rows = compute_calibration_rows(table, patient, single_count)
    return values | {metric_list.CALIBRATION_ERROR: float(np.abs(bin_rows).sum())}


def compute_calibration_rows(table: pd.DataFrame, patient: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The bins' differences of cases, by resample; see `calibration_error.compute_bin_differences`."""
    label, prob = table["label"].to_numpy(), table["prob"].to_numpy()
    return calibration_error.compute_bin_differences(label, prob, patient, counts)


def compute_true_differences(probabilities: str) -> dict[str, float]:
    """Each metric's true value for the rival minus that for the model."""
    first, second = compute_true_values(probabilities), compute_true_values("rival")
    return {name: second[name] - first[name] for name in first if name != "floor"}


def compute_paired_intervals(seed: int, images: int, probabilities: str, resamples: int) -> dict[str, list[tuple]]:
    """The intervals of the differences between two models on one sample of cases.

    seed: of the sample and its resamples
    images: how many, about
    probabilities: how the first model reports them, a key of REPORTING_MODELS
    resamples: how many
    Returns metric -> a list of one interval (low, high).
    """
    case_pair = [sample_cases(np.random.default_rng(seed), images // 2, name) for name in (probabilities, "rival")]
    differences = paired_differences.compare_models(*case_pair, resamples, seed, PREVALENCE)
    return {name: [(row["low"], row["high"])] for name, row in differences.items()}


def compute_intervals(seed: int, images: int, probabilities: str, resamples: int) -> dict[str, list[tuple]]:
    """The intervals of one model on one sample of cases.

    seed, images, probabilities, resamples: see `compute_paired_intervals`
    Returns metric -> the panel's interval and that of plain percentiles, each (low, high).
    """
    table = sample_cases(np.random.default_rng(seed), images // 2, probabilities)
    patient, _ = resampling.number_patients(table)
    counts = resampling.draw_resamples(patient.max() + 1, resamples, seed)
    patients_by_metric, metric_intervals = metric_list.count_patients_by_metric(table, patient), {}
    for name, row in metric_list.resample_metrics(table, patient, counts, PREVALENCE).items():
        draws = metric_list.build_resampled_metric(name, row, patients_by_metric)
        estimate = metric_list.estimate_metric(name, draws)
        metric_intervals[name] = [(estimate["low"], estimate["high"]), compute_percentile_interval(draws)]
    rows = compute_calibration_rows(table, patient, counts)
    percentile_interval = tuple(np.percentile(np.abs(rows[:, 1:]).sum(axis=0), [2.5, 97.5]))
    unbiased_interval = calibration_error.estimate_unbiased_error(rows, patient.max() + 1)[1:]
    return metric_intervals | {metric_list.CALIBRATION_ERROR: [unbiased_interval, percentile_interval]}


def main(
    images: int = 300,
    repetitions: int = 2000,
    resamples: int = 1000,
    probabilities: Literal["calibrated", "overconfident", "underconfident", "shifted"] = "calibrated",
    paired: bool = False,
) -> None:
    """Print the coverage of every metric's interval.

    Args:
        images: of a sample, about.
        repetitions: samples.
        resamples: of a sample.
        probabilities: how the model reports them.
        paired: compare with a rival model.
    """
    start, misses = time.perf_counter(), defaultdict(list)
    truth = (compute_true_differences if paired else compute_true_values)(probabilities)
    compute_sample = compute_paired_intervals if paired else compute_intervals
    compute_once = partial(compute_sample, images=images, probabilities=probabilities, resamples=resamples)
    for _, sample_intervals in map_unordered(compute_once, range(1, 1 + repetitions)):
        for name, metric_intervals in sample_intervals.items():
            if metric_intervals[0][0] is not None:
                misses[name].append([(truth[name] < low, truth[name] > high) for low, high in metric_intervals])
    title = f"{probabilities}{' against rival' if paired else ''}"
    print(f"{title}, about {images} images, {repetitions} repetitions, {resamples} resamples", end=", ")
    print(f"{time.perf_counter() - start:.0f} s\n{'':34}true   held  true is below / above it   plain percentiles")
    for name, rows in misses.items():
        print(format_coverage_row(name, truth[name], np.mean(rows, axis=0)))


def format_coverage_row(name: str, truth: float, miss_shares: np.ndarray) -> str:
    """A line of the table; miss_shares [intervals, 2]: shares of intervals above the truth, and below it."""
    coverages = [f"{1 - pair.sum():.1%}" for pair in miss_shares]
    sides = " / ".join(f"{share:.1%}" for share in miss_shares[0])
    return f"{name:32}{truth:6.3f}  {coverages[0]:>5}  {sides:>24}   {' '.join(coverages[1:]):>17}"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
