"""How often the panel's 95 % intervals hold the true value, where it is known.

    export OMP_NUM_THREADS=1               # every core has its own repetitions
    python -m bench.coverage [--images 300] [--repetitions 2000] [--resamples 1000] [--probabilities calibrated]
    python -m bench.coverage --paired      # differences between two models, as of pipeline.compare

Patients have one to many images (two on average, geometric), alike in their true probability and in the quality of
their masks; labels are Bernoulli draws of it; the model reports it as it is, or over- or under-confident or shifted;
the other model of a pair adds noise to its logit. The true value of each metric is that of one sample of a million
images. Printed, of the samples that have an interval: the share whose interval holds it, the shares that lie wholly
above and below it, and the share held by plain percentiles of the same resamples.
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

from cxr.panel import calibration, measure, paired, resample
from cxr.panel.intervals import percentile
from cxr.processes import each

FOLDS = 5
PREVALENCE = 0.1
MANY = 1_000_000
"""Images that give the true values."""
REPORTED = {
    "calibrated": (1.0, 0.0, 0.0), "overconfident": (1.6, 0.3, 0.0), "underconfident": (0.6, -0.2, 0.0),
    "shifted": (1.0, 0.8, 0.0), "rival": (1.0, 0.0, 1.0),
}  # fmt: skip
"""Slope and shift of the reported logit on the true one, and its noise."""


def cases(random: np.random.Generator, patients: int, probabilities: str) -> pd.DataFrame:
    """Cases of patients drawn from the known distribution, with the columns of tables.CASES that the panel reads."""
    patient = np.repeat(np.arange(patients), random.geometric(0.5, patients))
    count, fold = len(patient), random.integers(0, FOLDS, patients)[patient]
    alike = random.standard_normal((2, patients))[:, patient]
    logit = -1.9 + 1.5 * alike[0] + 1.5 * random.standard_normal(count)
    slope, shift, noise = REPORTED[probabilities]
    (apart,) = random.spawn(1)  # so that both models of a pair have the same patients
    reported = slope * logit + shift + noise * apart.standard_normal(count)
    table = {"image_id": np.arange(count).astype(str), "patient": patient.astype(str), "fold": fold, "head": fold}
    table |= {"label": (random.random(count) < expit(logit)) * 1.0, "prob": expit(reported)}
    table["positive"] = table["prob"] >= 0.4
    return pd.DataFrame(table | masks(random, table["label"] > 0.5, table["positive"], alike[1]))


def masks(random: np.random.Generator, ill: np.ndarray, positive: np.ndarray, alike: np.ndarray) -> dict:
    """Pixel counts and lesions: masks of quality 0..1, alike within a patient; a gate's no is an empty mask."""
    quality = ndtr((alike + random.standard_normal(len(ill))) / 2**0.5)
    truth = np.where(ill, np.exp(random.normal(9, 1, len(ill))), 0).astype(int)
    drawn = positive & (random.random(len(ill)) < 0.9)
    found = np.where(drawn, np.where(ill, truth * np.exp(random.normal(0, 0.4, len(ill))), 3000), 0).astype(int)
    overlap = (np.minimum(truth, found) * quality).astype(int)
    lesions = np.where(ill, 1 + poisson.ppf(random.random(len(ill)), 0.5), 0).astype(int)
    hit = binom.rvs(lesions, np.where(drawn, 0.3 + 0.7 * quality, 0), random_state=random)
    extra = np.where(drawn, poisson.rvs(0.3 + 0.4 * (1 - quality), random_state=random), 0) + (drawn & ~ill)
    nsd = np.where(ill & drawn, quality**2, np.where(ill | drawn, 0.0, 1.0))
    counts = {"truth": truth, "found": found, "overlap": overlap, "lesions": lesions, "hit": hit, "extra": extra}
    return counts | {"nsd": nsd}


def true_values(probabilities: str) -> dict[str, float]:
    """Each metric's value of a sample so large that chance is far below an interval's width."""
    table = cases(np.random.default_rng(0), MANY // 2, probabilities)
    patient, ones = np.zeros(len(table), int), np.ones((1, 1), np.uint8)
    found = {name: float(row[0]) for name, row in measure.sampled(table, patient, ones, PREVALENCE).items()}
    rows = calibration.differences(table["label"].to_numpy(), table["prob"].to_numpy(), patient, ones)
    return found | {measure.CALIBRATION: float(np.abs(rows).sum())}


def true_differences(probabilities: str) -> dict[str, float]:
    """The rival's true values, less those of the model."""
    first, second = true_values(probabilities), true_values("rival")
    return {name: second[name] - first[name] for name in first if name != "floor"}


def paired_intervals(seed: int, images: int, probabilities: str, resamples: int) -> dict[str, list[tuple]]:
    """name -> interval of the difference."""
    pair = [cases(np.random.default_rng(seed), images // 2, name) for name in (probabilities, "rival")]
    found = paired.differences(*pair, resamples, seed, PREVALENCE)
    return {name: [(row["low"], row["high"])] for name, row in found.items()}


def intervals(seed: int, images: int, probabilities: str, resamples: int) -> dict[str, list[tuple]]:
    """name -> our interval, and the plain percentiles."""
    table = cases(np.random.default_rng(seed), images // 2, probabilities)
    patient, _ = resample.patients(table)
    counts = resample.draw(patient.max() + 1, resamples, seed)
    resting, found = measure.bearers(table, patient), {}
    for name, row in measure.sampled(table, patient, counts, PREVALENCE).items():
        draws = measure.draws(name, row, resting)
        ours = measure.figure(name, draws)
        found[name] = [(ours["low"], ours["high"]), percentile(draws)]
    rows = calibration.differences(table["label"].to_numpy(), table["prob"].to_numpy(), patient, counts)
    plain = np.percentile(np.abs(rows[:, 1:]).sum(axis=0), [2.5, 97.5])
    return found | {measure.CALIBRATION: [calibration.inverted(rows, patient.max() + 1)[1:], tuple(plain)]}


def main(
    images: int = 300,
    repetitions: int = 2000,
    resamples: int = 1000,
    probabilities: Literal["calibrated", "overconfident", "underconfident", "shifted"] = "calibrated",
    paired: bool = False,
) -> None:
    """Prints the coverage of every metric's interval."""
    start, misses = time.perf_counter(), defaultdict(list)
    truth = (true_differences if paired else true_values)(probabilities)
    once = partial(
        paired_intervals if paired else intervals, images=images, probabilities=probabilities, resamples=resamples
    )
    for _, found in each(once, range(1, 1 + repetitions)):
        for name, own in found.items():
            if own[0][0] is not None:
                misses[name].append([(truth[name] < low, truth[name] > high) for low, high in own])
    what = f"{probabilities}{' against rival' if paired else ''}"
    print(f"{what}, about {images} images, {repetitions} repetitions, {resamples} resamples", end=", ")
    print(f"{time.perf_counter() - start:.0f} s\n{'':34}true   held  true is below / above it   plain percentiles")
    for name, rows in misses.items():
        print(row(name, truth[name], np.mean(rows, axis=0)))


def row(name: str, truth: float, missed: np.ndarray) -> str:
    """A line of the table; missed [intervals, 2]: shares with the truth below and above."""
    held = [f"{1 - pair.sum():.1%}" for pair in missed]
    sides = " / ".join(f"{share:.1%}" for share in missed[0])
    return f"{name:32}{truth:6.3f}  {held[0]:>5}  {sides:>24}   {' '.join(held[1:]):>17}"


if __name__ == "__main__":
    tyro.cli(main)
