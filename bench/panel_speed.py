"""Seconds that the whole panel takes: every metric, for all and by group, each with its interval.

python -m bench.panel_speed [--images 12000] [--resamples 2000]
"""

import resource
import time

import numpy as np
import pandas as pd
import tyro

from bench import coverage
from cxr.panel import panel


def cases(images: int) -> pd.DataFrame:
    """Held-out cases of about so many images, two a patient, with every group that the panel knows."""
    random = np.random.default_rng(0)
    table = coverage.cases(random, images // 2, "calibrated")
    count = len(table)
    groups = {"view": random.choice(["AP", "PA"], count), "sex": random.choice(["F", "M"], count)}
    groups |= {"age": random.uniform(5, 90, count), "chest_tube": random.random(count) < 0.3}
    return table.assign(split="train", share=table["truth"] / 1024**2, **groups)


def main(images: int = 12_000, resamples: int = 2000) -> None:
    """Prints the time and the most memory held."""
    table = cases(images)
    start = time.perf_counter()
    found = panel(table, resamples)["held_out"]
    figures = len(found["all"]) + sum(len(part) - 2 for parts in found["by"].values() for part in parts.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(table)} images, {resamples} resamples, {figures} intervals: ", end="")
    print(f"{time.perf_counter() - start:.1f} s, {memory:.2f} GB")


if __name__ == "__main__":
    tyro.cli(main)
