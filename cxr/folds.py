"""Folds and subfolds of the labelled training images: a patient is never in two of them."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from cxr import duplicates, tables
from cxr.errors import DataError

ATTEMPTS = 20  # the splitter is greedy: with few patients one shuffle may leave a fold without positives


def assign(
    manifest: pd.DataFrame,
    folds: int,
    subfolds: int,
    seed: int,
    canvases: Callable[[list[str]], Iterable[np.ndarray]] | None = None,
) -> pd.DataFrame:
    """Fold and subfold of each labelled training image of a tables.MANIFEST, as tables.FOLDS.

    canvases: yields the pictures of the images named; those of no known patient are then grouped by
    near-duplicates, else each stands for itself. Strata: no pneumothorax, and terciles of the mask's area.
    Every fold and every subfold of a fold holds both classes; DataError with the counts where they cannot.
    """
    images = manifest[(manifest["split"] == "train") & manifest["label"].notna()].reset_index(drop=True)
    images = images.assign(group=_groups(images, canvases), stratum=_strata(images))
    fold = _divide(images, folds, seed, f"{folds} folds")
    subfold = np.zeros(len(images), np.int64)
    for number in range(folds):
        part = fold == number
        name = f"{subfolds} subfolds in each of {folds} folds"
        subfold[part] = _divide(images[part], subfolds, seed + 1 + number, name)
    table = pd.DataFrame({"image_id": images["image_id"], "fold": fold, "subfold": subfold})
    return tables.checked(table, tables.FOLDS, "folds")


def _groups(images: pd.DataFrame, canvases: Callable | None) -> np.ndarray:
    """A number for each patient, and for each set of near-duplicates among the images of unknown patients."""
    group = pd.factorize(images["patient"])[0].astype(np.int64)
    unknown = group < 0
    if unknown.any():
        ids = images["image_id"][unknown].tolist()
        found = duplicates.groups(canvases(ids)) if canvases else np.arange(len(ids))
        group[unknown] = group.max() + 1 + found
    return group


def _strata(images: pd.DataFrame) -> np.ndarray:
    """0 without a pneumothorax, else 1, 2 or 3: the tercile of the mask's share of its image."""
    positive = images["label"].to_numpy() == 1
    share = (images["mask_area"] / (images["height"] * images["width"])).to_numpy()
    edges = np.quantile(share[positive], [1 / 3, 2 / 3]) if positive.any() else [0, 0]
    return np.where(positive, 1 + np.digitize(share, edges), 0)


def _divide(images: pd.DataFrame, parts: int, seed: int, name: str) -> np.ndarray:
    """Part of each image, int64: whole groups, strata alike, both classes in every part."""
    if parts == 1:
        return np.zeros(len(images), np.int64)
    positive = images["stratum"].to_numpy() > 0
    _require_enough(images, positive, parts, name)
    for attempt in range(ATTEMPTS):
        # With few images the terciles leave the splitter no choice; the label alone may still work out.
        strata = images["stratum"].to_numpy()
        if attempt >= ATTEMPTS // 2 or np.unique(strata, return_counts=True)[1].min() < parts:
            strata = positive
        part = _split(images["group"].to_numpy(), strata, parts, seed + 1000 * attempt)
        if all(0 < positive[part == number].sum() < (part == number).sum() for number in range(parts)):
            return part
    raise DataError(f"too few for {name}: {_counts(images, positive)}; some part would lack one class")


def _split(group: np.ndarray, strata: np.ndarray, parts: int, seed: int) -> np.ndarray:
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    part = np.empty(len(group), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(group, strata, group)):
        part[held_out] = number
    return part


def _require_enough(images: pd.DataFrame, positive: np.ndarray, parts: int, name: str) -> None:
    with_, without = (images["group"][mask].nunique() for mask in (positive, ~positive))
    if min(with_, without, images["group"].nunique()) < parts:
        raise DataError(f"too few for {name}: {_counts(images, positive)}")


def _counts(images: pd.DataFrame, positive: np.ndarray) -> str:
    return (
        f"{len(images)} labelled images of {images['group'].nunique()} patients, of them {positive.sum()} images "
        f"of {images['group'][positive].nunique()} patients with a pneumothorax"
    )
