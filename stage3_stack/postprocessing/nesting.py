"""Held-out images, and the groups of them that thresholds are chosen without: folds, or subfolds of a single fold."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.datasets.prepared import Prepared
from stage3_stack.postprocessing.thresholds import LevelHistograms


def fold_of_images(prepared: Prepared, trained_folds: list[int]) -> pd.Series:
    """Fold of each image of the trained folds, by image_id, in the order of folds.csv."""
    return prepared.folds.loc[prepared.folds["fold"].isin(trained_folds), "fold"]


def nesting_groups(held_out: pd.DataFrame) -> tuple[str, np.ndarray]:
    """By which column held-out images (fold, subfold) are grouped, and each image's group, int [n].

    It is the fold or, if all images are of one fold, the subfold.
    """
    nested_by = "fold" if held_out["fold"].nunique() > 1 else "subfold"
    return nested_by, held_out[nested_by].to_numpy(int)


@dataclass(frozen=True)
class HeldOutImages:
    """What thresholds are chosen by: n held-out images in one order."""

    nested_by: str
    """fold or subfold"""
    group: np.ndarray
    """int [n]: the fold or subfold of each image"""
    histograms: LevelHistograms | None
    """Their maps, counted with their hand-drawn masks; None without segmenters"""
    prob: np.ndarray
    """float64 [n]: stacked probabilities"""
    labels: np.ndarray
    """float64 [n] of 0 or 1"""

    @classmethod
    def from_table(cls, held_out: pd.DataFrame, histograms: LevelHistograms | None) -> "HeldOutImages":
        """Held-out rows (fold, subfold, prob, label), and the histograms of the same images in the same order."""
        return cls(*nesting_groups(held_out), histograms, held_out["prob"].to_numpy(), held_out["label"].to_numpy())

    @property
    def group_keys(self) -> list[int]:
        """The folds or subfolds that occur, ascending."""
        return np.unique(self.group).tolist()

    def select_rows(self, rows: np.ndarray) -> "HeldOutImages":
        """Only these images, bool [n]."""
        histograms = None if self.histograms is None else self.histograms[rows]
        return HeldOutImages(self.nested_by, self.group[rows], histograms, self.prob[rows], self.labels[rows])
