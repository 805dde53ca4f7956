"""Stackers to compare the dense head with: members' mean, logistic regression of their logits, boosted trees."""

import numpy as np

from stage3_stack.config import LightgbmConfig
from stage3_stack.stacking.dense_head import HeadInput, State


def mean_logit(_state: State, head_input: HeadInput) -> np.ndarray:
    """The members' mean logit [n]."""
    return head_input.mean_logit


def fit_logistic(head_input: HeadInput) -> State:
    """Logistic regression of the members' logits, with scikit-learn's default L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=1.0).fit(head_input.member_logits, head_input.labels)
    return {"weight": regression.coef_[0], "bias": regression.intercept_}


def logistic_logit(state: State, head_input: HeadInput) -> np.ndarray:
    """Logits [n] of a logistic stack."""
    return head_input.member_logits @ state["weight"] + state["bias"]


def fit_lightgbm(head_input: HeadInput, settings: LightgbmConfig, seed: int) -> State:
    """Gradient-boosted trees on those of settings.columns that exist; LightGBM's own text and the column names."""
    import lightgbm

    booster_params = {
        "objective": "binary", "num_leaves": settings.leaves, "learning_rate": settings.lr, "seed": seed,
        "min_data_in_leaf": settings.min_rows_per_leaf, "deterministic": True, "force_row_wise": True,
        "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    column_names = [name for name in settings.columns if name == "pca" or name in head_input.columns]
    data = lightgbm.Dataset(_join_columns(head_input, column_names), head_input.labels, params={"verbose": -1})
    text = lightgbm.train(booster_params, data, settings.trees).model_to_string()
    return {"text": np.frombuffer(text.encode(), np.uint8), "columns": np.array(column_names)}


def lightgbm_logit(state: State, head_input: HeadInput) -> np.ndarray:
    """Logits [n] of boosted trees."""
    import lightgbm

    booster = lightgbm.Booster(model_str=state["text"].tobytes().decode())
    columns = _join_columns(head_input, state["columns"].tolist())
    return np.asarray(booster.predict(columns, raw_score=True, num_threads=1))


def _join_columns(head_input: HeadInput, column_names: list[str]) -> np.ndarray:
    columns = head_input.columns | {"pca": head_input.components}
    return np.concatenate([columns[name] for name in column_names], axis=1)
