"""The figures of the closing table, for held-out images and, where its truth is known, for the test."""

import numpy as np
import pandas as pd

from cxr import metrics
from stage3_stack.combine import member
from stage3_stack.masks import Areas
from stage3_stack.stack import KINDS


def classification(table: pd.DataFrame, members: list[str], used: str, positive: np.ndarray) -> dict:
    """AUC of members, stackers and the stack in use; by thirds of lesion size; what the gate makes of it.

    table: label (0 or 1), fold, head (which one scored it), share (of the image that is lesion), and a column
    of probabilities for each member and stacker, [n] rows; positive: bool [n].
    """
    labels, head = table["label"].to_numpy(float), table["head"].to_numpy()
    if metrics.auc_within(labels, labels, head) is None:  # so few images that no head scored both classes
        head = table["fold"].to_numpy()

    def judged(column: str) -> dict:
        probs = table[column].to_numpy(float)
        return {"auc": metrics.auc_within(labels, probs, head), "log_loss": metrics.log_loss(labels, probs)}

    thirds = metrics.auc_by_third(table["share"].to_numpy(), table[used].to_numpy(float), head)
    return {
        "members": {name: judged(member(name)) for name in members},
        "stackers": {kind: judged(kind) for kind in KINDS},
        "stack": judged(used) | {"auc_by_third": thirds},
        "sensitivity": _share(positive[labels == 1]),
        "specificity": _share(~positive[labels == 0]),
    }


def _share(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def segmentation(final: Areas, plain: Areas, share: np.ndarray) -> dict:
    """Dice in both meanings, in the originals' pixels, beside what an empty and an unchosen answer score."""
    dices, labels = _dices(final), final.truth > 0
    return {
        "kaggle_dice": metrics.kaggle_dice(dices),
        "floor": metrics.floor(labels),
        "plain_dice": metrics.kaggle_dice(_dices(plain)),
        "positives_dice": metrics.positives_dice(labels, dices),
        "plain_positives_dice": metrics.positives_dice(labels, _dices(plain)),
        "positives_dice_by_third": metrics.dice_by_third(share, dices),
        "drawn": int((final.found > 0).sum()),
    }


def _dices(areas: Areas) -> np.ndarray:
    return metrics.dice_of_areas(areas.truth, areas.found, areas.overlap)


def described(labels: np.ndarray) -> dict[str, int]:
    """How many images, how many of them positive."""
    return {"images": len(labels), "positives": int((np.asarray(labels) == 1).sum())}
