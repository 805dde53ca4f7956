"""95 % intervals from resamples: for each metric a method whose coverage was measured (bench/coverage.py).

Of 2,000 samples each of 300 and of 3,000 images, calibrated, over- and under-confident, these held the truth in
- share (AUC, precision, points of the ROC curve, Dice, rates, Brier): 93.5 to 96.2 %;
- amount (log-loss, false parts): 94.0 to 95.0 %;
- calibration.inverted: 94.0 to 96.6 %, of a shifted model too.
Tried and left: plain percentiles (93.0 to 96.5 %, mostly below ours, and none to 94 % for the calibration error);
Student's on the plain scale (93.6 to 94.9 % at n = 300, and beyond 0 and 1); on the logit's (as Wilson's, but
undefined at 0 and 1).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
EXACT = 1e-9  # a standard error below is rounding
UNDEFINED = 0.05  # of the resamples, from which on a metric has a value and no interval


@dataclass(frozen=True)
class Draws:
    """One metric in the sample and in its resamples."""

    value: float
    resampled: np.ndarray
    """[resamples], nan where it is undefined."""
    patients: int
    """Of those that it rests on: for an AUC the fewer of those with a positive and those with a negative image."""

    @property
    def usable(self) -> bool:
        """Whether it is defined in the sample, in nearly all resamples, and rests on more than one patient."""
        return bool(np.isfinite(self.value)) and self.patients > 1 and np.isnan(self.resampled).mean() <= UNDEFINED

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.nanstd(self.resampled))

    @property
    def deviations(self) -> float:
        """Standard errors on either side: Student's, as the error is an estimate from few patients."""
        return float(stdtrit(self.patients - 1, (1 + LEVEL) / 2))


def share(draws: Draws) -> tuple[float, float]:
    """Interval of what lies in 0..1: Wilson's, for as many images as would have the bootstrap's standard error.

    (Franco et al., J Surv Stat Methodol 2019: of the intervals for clustered shares it covers best.) At 0 or 1, where
    the bootstrap shows no error, every patient counts once.
    """
    value, z = draws.value, draws.deviations
    variance = value * (1 - value)
    error = draws.error
    images = variance / error**2 if error > EXACT and variance > 0 else draws.patients
    middle = (value + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(variance / images + z**2 / (4 * images**2))
    return min(value, max(0.0, float(middle - half))), max(value, min(1.0, float(middle + half)))


def amount(draws: Draws) -> tuple[float, float] | tuple[None, None]:
    """Interval of what is 0 and up: Student's on a scale of logarithms; of 0 itself up to 3 / patients (rule of 3).

    (None, None) of the same amount in every image: it has no top by which to tell what the others may have.
    """
    if draws.value <= 0:
        return 0.0, 3 / draws.patients
    if draws.error < EXACT:
        return None, None
    factor = float(np.exp(draws.deviations * draws.error / draws.value))
    return draws.value / factor, draws.value * factor


def percentile(draws: Draws) -> tuple[float, float]:
    """The plain percentiles, for comparison."""
    low, high = np.nanpercentile(draws.resampled, [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2])
    return float(low), float(high)
