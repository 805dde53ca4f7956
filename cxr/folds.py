"""Folds, subfolds and validation patients of the labelled training images: a patient is never in two of them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from cxr import duplicates, tables
from cxr.errors import DataError

SHUFFLES = 10  # the splitter is greedy: with few patients one shuffle may leave a fold without positives


def assign(
    manifest: pd.DataFrame,
    folds: int,
    subfolds: int,
    seed: int,
    canvases: Callable[[list[str]], Iterable[np.ndarray]] | None = None,
    val_share: float = 0.1,
) -> pd.DataFrame:
    """Fold and subfold of each labelled training image of a tables.MANIFEST, and whether it may validate: tables.FOLDS.

    canvases: yields the pictures of the images named; those of no known patient are then grouped by
    near-duplicates, else each stands for itself. Strata: no pneumothorax, and terciles of the mask's area.
    Every fold and every subfold of a fold holds both classes; DataError with the counts where they cannot.
    val_share: of each fold's patients, strata alike; they validate the trainings in which the fold is not held out.
    """
    images = manifest[(manifest["split"] == "train") & manifest["label"].notna()].reset_index(drop=True)
    images = images.assign(group=_groups(images, canvases), stratum=_strata(images))
    name = f"{folds} folds of {subfolds} subfolds each" if subfolds > 1 else f"{folds} folds"
    fold = _divide(images, folds, subfolds, seed, name)
    subfold, val = np.zeros(len(images), np.int64), np.zeros(len(images), bool)
    for number in range(folds):
        part = fold == number
        subfold[part] = _divide(images[part], subfolds, 1, seed + 1 + number, name)
        val[part] = _draw_val(images[part], val_share, seed + 1 + folds + number)
    table = pd.DataFrame({"image_id": images["image_id"], "fold": fold, "subfold": subfold, "val": val})
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


def _divide(images: pd.DataFrame, parts: int, least: int, seed: int, name: str) -> np.ndarray:
    """Part of each image, int64: whole groups, strata alike, in every part `least` groups or more of both classes."""
    group, positive = images["group"].to_numpy(), images["stratum"].to_numpy() > 0
    for part in _attempts(group, images["stratum"].to_numpy(), parts, seed):
        if all(len(np.unique(group[(part == number) & kind])) >= least
               for number in range(parts) for kind in (positive, ~positive)):  # fmt: skip
            return part
    patients = images["group"].nunique()
    with_ = images["group"][positive].nunique()
    raise DataError(
        f"too few for {name}: {len(images)} labelled images of {patients} patients, of them {positive.sum()} images "
        f"of {with_} patients with a pneumothorax; each subfold needs images with and without one"
    )


def _draw_val(images: pd.DataFrame, share: float, seed: int) -> np.ndarray:
    """Which of a fold's images validate, bool [n]: whole patients of both classes, as near to `share` as they allow."""
    for parts in range(round(1 / share), 1, -1):
        with suppress(DataError):  # too few patients with, or without, a pneumothorax for so many parts
            return _divide(images, parts, 1, seed, "validation") == 0
    return np.zeros(len(images), bool)


def _attempts(group: np.ndarray, stratum: np.ndarray, parts: int, seed: int) -> Iterator[np.ndarray]:
    """Ways to divide, the best first: strata alike, then the label alone alike, then patients dealt like cards."""
    positive = stratum > 0
    for strata in (stratum, positive):
        _, counts = np.unique(strata, return_counts=True)
        if parts > 1 and min(counts.min(), len(np.unique(group))) >= parts:
            yield from (_split(group, strata, parts, seed + 1000 * shuffle) for shuffle in range(SHUFFLES))
    yield _deal(group, positive, parts, seed)


def _deal(group: np.ndarray, positive: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Patients in turn, those with a pneumothorax first: as even in numbers as can be, whatever their images."""
    order = np.random.default_rng(seed).permutation(np.unique(group))
    order = order[np.argsort(~np.isin(order, group[positive]), kind="stable")]
    place = dict(zip(order.tolist(), range(len(order)), strict=True))
    return np.array([place[one] % parts for one in group.tolist()], np.int64)


def _split(group: np.ndarray, strata: np.ndarray, parts: int, seed: int) -> np.ndarray:
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    part = np.empty(len(group), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(group, strata, group)):
        part[held_out] = number
    return part
