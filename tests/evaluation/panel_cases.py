"""Cases for the panel's tests: two images a patient, some of them positive, with scores that are better than chance."""

import numpy as np
import pandas as pd


def made(count: int, seed: int = 0) -> pd.DataFrame:
    """`count` held-out cases with every column of tables.CASES; the same for the same seed."""
    random = np.random.default_rng(seed)
    label = (random.random(count) < 0.4).astype(float)
    prob = np.clip(0.3 * label + 0.7 * random.random(count), 0.01, 0.99)
    truth = np.where(label > 0, random.integers(50, 900, count), 0)
    found = np.where(prob > 0.5, random.integers(50, 900, count), 0)
    numbers = np.arange(count)
    return pd.DataFrame({
        "image_id": [f"image{number}" for number in numbers], "split": "train",
        "patient": [f"patient{number // 2}" for number in numbers], "fold": numbers // 2 % 3,
        "head": numbers // 2 % 6, "label": label, "prob": prob, "positive": prob > 0.5,
        "age": random.uniform(5, 90, count), "sex": random.choice(["F", "M"], count),
        "view": random.choice(["AP", "PA"], count), "share": truth / 1024, "truth": truth, "found": found,
        "overlap": np.minimum(truth, found) // 2, "lesions": (truth > 0) * 1, "hit": ((truth > 0) & (found > 0)) * 1,
        "extra": ((truth == 0) & (found > 0)) * 1, "nsd": random.random(count),
    })  # fmt: skip
