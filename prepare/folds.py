"""Folds, subfolds and validation patients of the labelled training images.

A patient, or a copy of an image, is never in two of them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from cxr import tables
from cxr.datasets import near_duplicates
from cxr.errors import DataError

MAX_SHUFFLES = 10  # the splitter is greedy: with few patients one shuffle may leave a fold without positives


def assign_folds(
    manifest: pd.DataFrame,
    folds: int,
    subfolds: int,
    seed: int,
    canvases: Callable[[list[str]], Iterable[np.ndarray]] | None = None,
    val_share: float = 0.1,
) -> pd.DataFrame:
    """Fold and subfold of each labelled training image, and whether it validates: a table of schema tables.FOLDS.

    manifest: a table of schema tables.MANIFEST.
    folds: number of folds.
    subfolds: number of subfolds of each fold.
    seed: of the shuffles.
    canvases: yields the prepared pictures of the images named, uint8 [s, s], by which near-duplicates are recognised;
        None: no pictures.
    val_share: share of each fold's patients that validate the trainings in which the fold is not held out.

    Images that a patient or near-duplicates link form a group, and a group is never divided. Strata: images without a
    pneumothorax, and terciles of the mask's area (scikit-learn's StratifiedGroupKFold).
    Raises DataError, with the counts, where a fold or subfold cannot hold both classes.
    """
    images = manifest[(manifest["split"] == "train") & manifest["label"].notna()].reset_index(drop=True)
    images = images.assign(stratum=_assign_strata(images))
    patient, picture = _number_patients(images), _group_pictures(images, canvases)
    group = link_groups(patient, picture)
    try:
        table = _divide_into_folds(images.assign(group=group), folds, subfolds, seed, val_share)
    except DataError:
        patient_groups = _group_known_by_patient(images, patient, picture)
        if len(np.unique(patient_groups)) == len(np.unique(group)):
            raise
        table = _divide_into_folds(images.assign(group=patient_groups), folds, subfolds, seed, val_share)
        print("prepare: warning: too many images look alike for folds that keep them together: patients alone are")
    else:
        _print_copies(images, group, patient, picture)
    return tables.enforce_schema(table, tables.FOLDS, "folds")


def _divide_into_folds(images: pd.DataFrame, folds: int, subfolds: int, seed: int, val_share: float) -> pd.DataFrame:
    """tables.FOLDS of images with group and stratum; DataError where there are too few groups."""
    division_name = f"{folds} folds of {subfolds} subfolds each" if subfolds > 1 else f"{folds} folds"
    fold = _divide_groups(images, folds, subfolds, seed, division_name)
    subfold, val = np.zeros(len(images), np.int64), np.zeros(len(images), bool)
    for fold_number in range(folds):
        in_fold = fold == fold_number
        subfold[in_fold] = _divide_groups(images[in_fold], subfolds, 1, seed + 1 + fold_number, division_name)
        val[in_fold] = _draw_val(images[in_fold], val_share, seed + 1 + folds + fold_number)
    return pd.DataFrame({"image_id": images["image_id"], "fold": fold, "subfold": subfold, "val": val})


def _number_patients(images: pd.DataFrame) -> np.ndarray:
    """The number of each image's patient [n]; a number of its own where that is unknown."""
    patient = pd.factorize(images["patient"])[0].astype(np.int64)
    is_unknown = patient < 0
    patient[is_unknown] = len(images) + np.arange(is_unknown.sum())
    return patient


def _group_pictures(images: pd.DataFrame, canvases: Callable | None) -> np.ndarray:
    """The number of each image's set of near-duplicates [n]."""
    return near_duplicates.group_canvases(canvases(images["image_id"].tolist())) if canvases else np.arange(len(images))


def _group_known_by_patient(images: pd.DataFrame, patient: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Groups [n] by patient and, among the images of unknown patients alone, by near-duplicates."""
    is_known = images["patient"].notna().to_numpy()
    return np.where(is_known, patient, 2 * len(images) + picture)


def _print_copies(images: pd.DataFrame, group: np.ndarray, patient: np.ndarray, picture: np.ndarray) -> None:
    """Say how many copies there are, and how many patients they unite."""
    copies = len(picture) - len(np.unique(picture))
    if copies:
        is_known = images["patient"].notna().to_numpy()
        patients_per_group = pd.Series(patient[is_known]).groupby(group[is_known]).nunique()
        united_patients = int(patients_per_group[patients_per_group > 1].sum())
        remark = f"; {united_patients} patients share pictures, and are taken for fewer" if united_patients else ""
        print(f"prepare: {copies} images look like another one and stay in its fold{remark}")


def link_groups(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The connected parts of n items, of which those with the same number in either array [n] are linked: int64 [n]."""
    _, first = np.unique(first, return_inverse=True)
    _, second = np.unique(second, return_inverse=True)
    node_count = first.max() + 1 + second.max() + 1  # items link nodes: the numbers of the one, then those of the other
    graph = coo_array((np.ones(len(first)), (first, first.max() + 1 + second)), shape=(node_count, node_count))
    return connected_components(graph, directed=False)[1][first].astype(np.int64)


def _assign_strata(images: pd.DataFrame) -> np.ndarray:
    """0 without a pneumothorax, else 1, 2 or 3: the tercile of the mask's share of its image."""
    positive = images["label"].to_numpy() == 1
    share = (images["mask_area"] / (images["height"] * images["width"])).to_numpy()
    edges = np.quantile(share[positive], [1 / 3, 2 / 3]) if positive.any() else [0, 0]
    return np.where(positive, 1 + np.digitize(share, edges), 0)


def _divide_groups(images: pd.DataFrame, parts: int, min_groups: int, seed: int, division_name: str) -> np.ndarray:
    """Part of each image, int64: whole groups, strata alike, in every part `min_groups` or more of both classes."""
    group, positive = images["group"].to_numpy(), images["stratum"].to_numpy() > 0
    for part in _attempt_divisions(group, images["stratum"].to_numpy(), parts, seed):
        if all(len(np.unique(group[(part == number) & is_class])) >= min_groups
               for number in range(parts) for is_class in (positive, ~positive)):  # fmt: skip
            return part
    patients = images["group"].nunique()
    positive_patients = images["group"][positive].nunique()
    raise DataError(
        f"too few for {division_name}: {len(images)} labelled images of {patients} patients, of them {positive.sum()} "
        f"images of {positive_patients} patients with a pneumothorax; each subfold needs images with and without one"
    )


def _draw_val(images: pd.DataFrame, share: float, seed: int) -> np.ndarray:
    """Which of a fold's images validate, bool [n]: whole patients of both classes, as near to `share` as they allow."""
    for parts in range(round(1 / share), 1, -1):
        with suppress(DataError):  # too few patients with, or without, a pneumothorax for so many parts
            return _divide_groups(images, parts, 1, seed, "validation") == 0
    return np.zeros(len(images), bool)


def _attempt_divisions(group: np.ndarray, stratum: np.ndarray, parts: int, seed: int) -> Iterator[np.ndarray]:
    """Ways to divide, the best first: strata alike, then the label alone alike, then patients dealt like cards."""
    positive = stratum > 0
    for strata in (stratum, positive):
        _, counts = np.unique(strata, return_counts=True)
        if parts > 1 and min(counts.min(), len(np.unique(group))) >= parts:
            yield from (
                _split_stratified(group, strata, parts, seed + 1000 * shuffle) for shuffle in range(MAX_SHUFFLES)
            )
    yield _deal_patients(group, positive, parts, seed)


def _deal_patients(group: np.ndarray, positive: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Patients in turn, those with a pneumothorax first: as even in numbers as can be, whatever their images."""
    order = np.random.default_rng(seed).permutation(np.unique(group))
    order = order[np.argsort(~np.isin(order, group[positive]), kind="stable")]
    position_of_group = dict(zip(order.tolist(), range(len(order)), strict=True))
    return np.array([position_of_group[group_number] % parts for group_number in group.tolist()], np.int64)


def _split_stratified(group: np.ndarray, strata: np.ndarray, parts: int, seed: int) -> np.ndarray:
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    part = np.empty(len(group), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(group, strata, group)):
        part[held_out] = number
    return part
