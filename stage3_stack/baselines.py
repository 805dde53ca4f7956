"""What the dense head is measured against: members' mean, logistic regression of their logits, boosted trees."""

import numpy as np

from stage3_stack.config import LightgbmConfig
from stage3_stack.heads import Part, State


def mean_logit(_state: State, part: Part) -> np.ndarray:
    """The members' mean logit [n]."""
    return part.mean_logit


def fit_logistic(part: Part) -> State:
    """Logistic regression of the members' logits, pulled towards 0 as by default in scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=1.0).fit(part.logits, part.labels)
    return {"weight": found.coef_[0], "bias": found.intercept_}


def logistic_logit(state: State, part: Part) -> np.ndarray:
    """Logits [n] of a logistic stack."""
    return part.logits @ state["weight"] + state["bias"]


def fit_lightgbm(part: Part, config: LightgbmConfig, seed: int) -> State:
    """Gradient-boosted trees on the columns that are asked for and there; kept as LightGBM's own text."""
    import lightgbm

    settings = {
        "objective": "binary", "num_leaves": config.leaves, "learning_rate": config.lr, "seed": seed,
        "min_data_in_leaf": config.least_rows, "deterministic": True, "force_row_wise": True,
        "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    names = [name for name in config.columns if name == "pca" or name in part.columns]
    data = lightgbm.Dataset(_columns(part, names), part.labels, params={"verbose": -1})
    text = lightgbm.train(settings, data, config.trees).model_to_string()
    return {"text": np.frombuffer(text.encode(), np.uint8), "columns": np.array(names)}


def lightgbm_logit(state: State, part: Part) -> np.ndarray:
    """Logits [n] of boosted trees."""
    import lightgbm

    booster = lightgbm.Booster(model_str=state["text"].tobytes().decode())
    return np.asarray(booster.predict(_columns(part, state["columns"].tolist()), raw_score=True, num_threads=1))


def _columns(part: Part, names: list[str]) -> np.ndarray:
    return np.concatenate([part.components if name == "pca" else part.columns[name] for name in names], axis=1)
