"""Whether the patients of held-out images, or copies of the images themselves, are in training too."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from cxr.datasets import near_duplicates
from cxr.datasets.prepared import Prepared

TRAIN = "train"
"""The fold whose images all other folds are trained with."""
TRAITS = ("patient", "duplicate")
"""What a held-out image can share with a training image."""


def measure_leakage(
    folds: pd.DataFrame,
    patients: Mapping[str, str] | None,
    duplicates: Mapping[str, int] | None,
    labels: Mapping[str, float] | None,
) -> dict:
    """How many held-out images share their patient with a training image, or look the same as one.

    folds: image_id, fold, optionally division. A fold is trained with the fold 'train' where there is one, else with
        all others, of its own division alone; an image on both sides counts as leaked
    patients: patient by image_id
    duplicates: number of the group of near-duplicates by image_id
    labels: above 0 where positive, by image_id; of these three None: unknown, and so are its figures

    Returns images and patients_known (numbers of images); folds: of each held-out fold `fold`, images, positive, and
    for patient and duplicate {images, share, positive, positive_share} of the images that leak; all: the same of all
    held-out images; leak: whether any image leaks.
    """
    traits = {"patient": patients, "duplicate": duplicates}
    table = _build_trait_table(folds, traits, labels or {})
    held_out = table[table["fold"] != TRAIN]
    known_traits = {trait for trait, values in traits.items() if values is not None}
    return {
        "images": table["image_id"].nunique(),
        "patients_known": sum(name in (patients or {}) for name in table["image_id"].unique()),
        "folds": _count_folds(held_out, known_traits, labels),
        "all": _count_part(held_out, known_traits, labels),
        "leak": bool(held_out[[f"{trait}_leaks" for trait in TRAITS]].to_numpy().any()),
    }


def _build_trait_table(
    folds: pd.DataFrame, traits: dict[str, Mapping | None], labels: Mapping[str, float]
) -> pd.DataFrame:
    """image_id, fold, division, positive; for each trait its value (unique where unknown) and <trait>_leaks."""
    table = folds[["image_id", "fold"]].assign(division=folds.get("division", "")).astype(str)
    table = table.drop_duplicates(ignore_index=True)
    table["positive"] = [bool(labels.get(name, 0) > 0) for name in table["image_id"]]
    for trait, values in traits.items():
        table[trait] = [str((values or {}).get(name, f"of {name} alone")) for name in table["image_id"]]
        table[f"{trait}_leaks"] = _mark_leaks(table, trait)
    return table


def _mark_leaks(table: pd.DataFrame, trait: str) -> np.ndarray:
    """Whether another fold of the training holds the same value, bool [n]."""
    leaks = np.zeros(len(table), bool)
    for rows in table.groupby("division").indices.values():
        leaks[rows] = _mark_within_division(table.iloc[rows], trait)
    return leaks


def _mark_within_division(table: pd.DataFrame, trait: str) -> np.ndarray:
    has_train = (table["fold"] == TRAIN).any()
    training_rows = table[table["fold"] == TRAIN] if has_train else table
    folds = training_rows.groupby(trait)["fold"].agg(set)
    return np.array([bool(folds.get(value, set()) - {fold})
                     for value, fold in zip(table[trait], table["fold"], strict=True)])  # fmt: skip


def _count_folds(held_out: pd.DataFrame, known_traits: set[str], labels: Mapping | None) -> list[dict]:
    folds = sorted(held_out["fold"].unique(), key=lambda fold: (len(fold), fold))
    return [{"fold": fold} | _count_part(held_out[held_out["fold"] == fold], known_traits, labels) for fold in folds]


def _count_part(part: pd.DataFrame, known_traits: set[str], labels: Mapping | None) -> dict:
    positive = part[part["positive"]]
    counts = {"images": len(part), "positive": len(positive) if labels is not None else None}
    return counts | {trait: _count_leaked(part, positive, f"{trait}_leaks", labels) if trait in known_traits else None
                     for trait in TRAITS}  # fmt: skip


def _count_leaked(part: pd.DataFrame, positive: pd.DataFrame, column: str, labels: Mapping | None) -> dict:
    counts = {"images": int(part[column].sum()), "share": round(float(part[column].mean()), 4)}
    has_share = labels is not None and len(positive) > 0
    return counts | {"positive": int(positive[column].sum()) if labels is not None else None,
                      "positive_share": round(float(positive[column].mean()), 4) if has_share else None}  # fmt: skip


def format_leakage(result: dict) -> str:
    """What `measure_leakage` returned, as a table for a terminal or a report, a line for each fold."""
    lines = [f"{'held-out':10s} {'images':>7s} {'positive':>9s}   {'patient in training':26s} near-duplicate there"]
    for row in [*result["folds"], {"fold": "all"} | result["all"]]:
        positive = "unknown" if row["positive"] is None else f"{row['positive']:,}"
        shares = [_format_shares(row[trait]) for trait in TRAITS]
        lines.append(f"{row['fold']:10s} {row['images']:7,} {positive:>9s}   {shares[0]:26s} {shares[1]}")
    return "\n".join([*lines, *_note_unknown_patients(result["patients_known"], result["images"])])


def _note_unknown_patients(patients_known: int, images: int) -> list[str]:
    if patients_known == images:
        return []
    known_text = f"patients known of {patients_known:,} of {images:,} images only"
    return [known_text if patients_known else "patients unknown"]


def _format_shares(shares: dict | None) -> str:
    if shares is None:
        return "unknown"
    of_positive = shares["positive_share"]
    return f"{shares['share']:.1%}" + ("" if of_positive is None else f", of positive {of_positive:.1%}")


def audit_leakage(prepared: Prepared, trained_folds: list[int]) -> dict:
    """`measure_leakage` of a run's scored images: those of its trained folds, each with all other folds as training.

    prepared: the prepared data with the run's folds; trained_folds: numbers of the folds that have a model. Returns the
    same keys, counted over the scored images.
    """
    image_ids = prepared.folds.index.tolist()
    manifest_rows = prepared.manifest.loc[image_ids]
    patients = manifest_rows["patient"].dropna().to_dict()
    labels = manifest_rows["label"].dropna().to_dict()
    audit = measure_leakage(
        prepared.folds.reset_index(drop=True), patients or None, group_duplicates(prepared, image_ids), labels
    )
    fold_records = [fold_record for fold_record in audit["folds"] if int(fold_record["fold"]) in trained_folds]
    scored_ids = prepared.folds.index[prepared.folds["fold"].isin(trained_folds)]
    totals = _sum_folds(fold_records)
    return {
        "images": len(scored_ids),
        "patients_known": sum(name in patients for name in scored_ids),
        "folds": fold_records,
        "all": totals,
        "leak": any(totals[trait] and totals[trait]["images"] for trait in TRAITS),
    }


def _sum_folds(fold_records: list[dict]) -> dict:
    """The records of several folds as one, without its fold."""
    totals = {name: sum(fold_record[name] for fold_record in fold_records) for name in ("images", "positive")}
    return totals | {trait: _sum_trait([record[trait] for record in fold_records], totals) for trait in TRAITS}


def _sum_trait(trait_records: list[dict | None], totals: dict[str, int]) -> dict | None:
    """A trait's figures of several folds together; None where it is unknown."""
    if None in trait_records:
        return None
    counts = {name: sum(record[name] for record in trait_records) for name in ("images", "positive")}
    shares = {"share": "images", "positive_share": "positive"}
    return counts | {share: counts[n] / totals[n] if totals[n] else None for share, n in shares.items()}


def group_duplicates(prepared: Prepared, image_ids: list[str]) -> dict[str, int]:
    """Number of each image's group of near-duplicates, by image_id, from the prepared pixels."""

    def build_picture(image_id: str) -> tuple[np.ndarray, np.ndarray]:
        canvas = prepared.read_image(image_id)
        return near_duplicates.compute_signature(canvas), near_duplicates.make_thumbnail(canvas)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(build_picture, image_ids))
    return dict(zip(image_ids, near_duplicates.link_pictures(pictures).tolist(), strict=True))


def describe_leakage(audit: dict) -> str:
    """What `audit_leakage` returned, in a sentence for the closing table."""
    known_count, image_count = audit["patients_known"], audit["images"]
    text = f"Patients in training too: {_format_share(audit['all']['patient'])}" if known_count else "Patients unknown"
    if 0 < known_count < image_count:
        text += f" (patients known of {known_count} of {image_count} images only)"
    return f"{text}; near-duplicates: {_format_share(audit['all']['duplicate'])}."


def _format_share(trait_record: dict) -> str:
    text = f"{100 * trait_record['share']:.1f} % of images"
    positive_share = trait_record["positive_share"]
    return text if positive_share is None else f"{text}, {100 * positive_share:.1f} % of positive ones"
