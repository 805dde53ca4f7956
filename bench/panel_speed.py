"""Seconds and memory that the whole panel takes: every metric with its interval, for all images and by group.

python -m bench.panel_speed [--images 12000] [--resamples 2000]
"""

import resource
import time

import numpy as np
import pandas as pd
import tyro

from bench import coverage
from evaluation.panel import compute_panel


def sample_grouped_cases(images: int) -> pd.DataFrame:
    """About so many held-out cases, two to a patient, with the columns of every group of the panel."""
    rng = np.random.default_rng(0)
    table = coverage.sample_cases(rng, images // 2, "calibrated")
    count = len(table)
    groups = {"view": rng.choice(["AP", "PA"], count), "sex": rng.choice(["F", "M"], count)}
    groups |= {"age": rng.uniform(5, 90, count), "chest_tube": rng.random(count) < 0.3}
    return table.assign(split="train", share=table["truth"] / 1024**2, **groups)


def main(images: int = 12_000, resamples: int = 2000) -> None:
    """Print the number of intervals, the time and the most memory held."""
    table = sample_grouped_cases(images)
    start = time.perf_counter()
    held_out = compute_panel(table, resamples)["held_out"]
    groups = [figures for groups in held_out["by"].values() for figures in groups.values()]
    interval_count = len(held_out["all"]) + sum(len(figures) - 2 for figures in groups)  # two are counts
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(table)} images, {resamples} resamples, {interval_count} intervals: ", end="")
    print(f"{time.perf_counter() - start:.1f} s, {memory:.2f} GB")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
