"""95 % intervals from resamples: for each metric a method whose coverage was measured (bench/coverage.py).

Of 2,000 samples each of 300 and of 3,000 images, calibrated, over- and under-confident, these held the truth in
- compute_share_interval (AUC, precision, points of the ROC curve, Dice, rates, Brier): 93.5 to 96.2 %;
- compute_amount_interval (log-loss, false parts): 94.0 to 95.0 %;
- calibration_error.estimate_unbiased_error: 94.0 to 96.6 %, of a shifted model too.
Tried and rejected: plain percentiles (93.0 to 96.5 %, mostly below ours, and 0 to 94 % for the calibration error);
Student's on the plain scale (93.6 to 94.9 % at n = 300, and reaches beyond 0 and 1); Student's on the logit scale (as
good as Wilson's, but undefined at 0 and 1).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE_LEVEL = 0.95
MIN_STANDARD_ERROR = 1e-9  # a smaller standard error is rounding
MAX_UNDEFINED_SHARE = 0.05  # a metric that is undefined in more of the resamples has a value, but no interval


@dataclass(frozen=True)
class ResampledMetric:
    """One metric in the sample and in its resamples, with what an interval needs to know of them."""

    value: float
    resampled_values: np.ndarray
    """[resamples], nan where it is undefined."""
    patients: int
    """How many it rests on; for an AUC the fewer of those with a positive and those with a negative image."""

    @property
    def has_interval(self) -> bool:
        """Whether it is defined in the sample, in nearly all resamples, and rests on more than one patient."""
        return (
            bool(np.isfinite(self.value))
            and self.patients > 1
            and np.isnan(self.resampled_values).mean() <= MAX_UNDEFINED_SHARE
        )

    @property
    def standard_error(self) -> float:
        """The bootstrap's: the standard deviation of the resamples."""
        return float(np.nanstd(self.resampled_values))

    @property
    def critical_value(self) -> float:
        """Half width of a 95 % interval in standard errors: Student's, as the standard error is itself estimated."""
        return float(stdtrit(self.patients - 1, (1 + CONFIDENCE_LEVEL) / 2))


def compute_share_interval(draws: ResampledMetric) -> tuple[float, float]:
    """Interval (low, high) of a metric that lies within 0..1: Wilson's score interval (J Am Stat Assoc 1927).

    Its number of images is the effective one: as many independent images as would have the bootstrap's standard error
    (Franco et al., J Surv Stat Methodol 2019, found it the best for clustered shares). At 0 or 1, where the bootstrap
    shows no error, it is the number of patients.
    """
    value, z, standard_error = draws.value, draws.critical_value, draws.standard_error
    variance, images = value * (1 - value), draws.patients
    if standard_error > MIN_STANDARD_ERROR and variance > 0:
        images = variance / standard_error**2
    centre = (value + z**2 / (2 * images)) / (1 + z**2 / images)
    half_width = z / (1 + z**2 / images) * np.sqrt(variance / images + z**2 / (4 * images**2))
    return min(value, max(0.0, float(centre - half_width))), max(value, min(1.0, float(centre + half_width)))


def compute_amount_interval(draws: ResampledMetric) -> tuple[float, float] | tuple[None, None]:
    """Interval (low, high) of a metric without an upper bound, 0 and above: Student's on the logarithm.

    By the delta method the standard error of log(value) is standard error / value. Of a value of 0 the interval ends at
    3 / patients (rule of three: Hanley and Lippman-Hand, JAMA 1983). (None, None) where every resample has the same
    positive value: the resamples then say nothing about other patients.
    """
    if draws.value <= 0:
        return 0.0, 3 / draws.patients
    if draws.standard_error < MIN_STANDARD_ERROR:
        return None, None
    factor = float(np.exp(draws.critical_value * draws.standard_error / draws.value))
    return draws.value / factor, draws.value * factor


def compute_percentile_interval(draws: ResampledMetric) -> tuple[float, float]:
    """Interval (low, high) by plain percentiles of the resamples; for comparison in bench/coverage.py only."""
    low, high = np.nanpercentile(
        draws.resampled_values, [100 * (1 - CONFIDENCE_LEVEL) / 2, 100 * (1 + CONFIDENCE_LEVEL) / 2]
    )
    return float(low), float(high)
