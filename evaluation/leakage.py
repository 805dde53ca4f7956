"""Whether the held-out images' patients, or copies of the images themselves, are in training too."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from cxr.datasets import near_duplicates
from cxr.datasets.prepared import Prepared

TRAIN = "train"
"""The fold whose images all others are trained with."""
TRAITS = ("patient", "duplicate")


def measure_leakage(
    folds: pd.DataFrame,
    patients: Mapping[str, str] | None,
    duplicates: Mapping[str, int] | None,
    labels: Mapping[str, float] | None,
) -> dict:
    """Of each held-out part, the images whose patient, or a near-duplicate, is in training too.

    folds: image_id and fold of each image; a fold called 'train' is the training of all others, else all other folds
    are; where there is a column division, those of the same one. patients, duplicates: the patient, and the number of
    the group of near-duplicates, by image_id; labels: above 0 where positive. None: unknown, and so are then the
    figures. An image that is itself on both sides counts.

    Returns images, patients_known, folds and all: of each part images, positive, and for `patient` and `duplicate`
    {images, share, positive, positive_share}; and leak: whether any of them is above 0.
    """
    table = folds[["image_id", "fold"]].assign(division=folds.get("division", "")).astype(str)
    table = table.drop_duplicates(ignore_index=True)
    table["positive"] = [bool((labels or {}).get(name, 0) > 0) for name in table["image_id"]]
    traits = {"patient": patients, "duplicate": duplicates}
    for trait, values in traits.items():
        table[trait] = [str((values or {}).get(name, f"of {name} alone")) for name in table["image_id"]]
        table[f"{trait}_seen"] = _mark_in_training(table, trait)
    held_out = table[table["fold"] != TRAIN]
    known_traits = {trait for trait, values in traits.items() if values is not None}
    parts = sorted(held_out["fold"].unique(), key=lambda part: (len(part), part))
    fold_counts = [
        {"fold": part} | _count_part(held_out[held_out["fold"] == part], known_traits, labels) for part in parts
    ]
    return {
        "images": table["image_id"].nunique(),
        "patients_known": sum(name in (patients or {}) for name in table["image_id"].unique()),
        "folds": fold_counts, "all": _count_part(held_out, known_traits, labels),
        "leak": bool(held_out[["patient_seen", "duplicate_seen"]].to_numpy().any()),
    }  # fmt: skip


def _mark_in_training(table: pd.DataFrame, trait: str) -> np.ndarray:
    """Whether another fold that is trained on holds the same value, bool [n]."""
    in_training = np.zeros(len(table), bool)
    for rows in table.groupby("division").indices.values():
        in_training[rows] = _mark_within_division(table.iloc[rows], trait)
    return in_training


def _mark_within_division(table: pd.DataFrame, trait: str) -> np.ndarray:
    has_train = (table["fold"] == TRAIN).any()
    training_rows = table[table["fold"] == TRAIN] if has_train else table
    folds = training_rows.groupby(trait)["fold"].agg(set)
    return np.array([bool(folds.get(value, set()) - {fold})
                     for value, fold in zip(table[trait], table["fold"], strict=True)])  # fmt: skip


def _count_part(part: pd.DataFrame, known_traits: set[str], labels: Mapping | None) -> dict:
    positive = part[part["positive"]]
    counts = {"images": len(part), "positive": len(positive) if labels is not None else None}
    return counts | {trait: _count_leaked(part, positive, f"{trait}_seen", labels) if trait in known_traits else None
                     for trait in ("patient", "duplicate")}  # fmt: skip


def _count_leaked(part: pd.DataFrame, positive: pd.DataFrame, column: str, labels: Mapping | None) -> dict:
    counts = {"images": int(part[column].sum()), "share": round(float(part[column].mean()), 4)}
    has_share = labels is not None and len(positive) > 0
    return counts | {"positive": int(positive[column].sum()) if labels is not None else None,
                      "positive_share": round(float(positive[column].mean()), 4) if has_share else None}  # fmt: skip


def format_leakage(result: dict) -> str:
    """The figures as a table for a terminal or a report, a line for each fold."""
    lines = [f"{'held-out':10s} {'images':>7s} {'positive':>9s}   {'patient in training':26s} near-duplicate there"]
    for row in [*result["folds"], {"fold": "all"} | result["all"]]:
        positive = "unknown" if row["positive"] is None else f"{row['positive']:,}"
        shares = [_format_shares(row[trait]) for trait in ("patient", "duplicate")]
        lines.append(f"{row['fold']:10s} {row['images']:7,} {positive:>9s}   {shares[0]:26s} {shares[1]}")
    patients_known, images = result["patients_known"], result["images"]
    if patients_known < images:
        lines.append(
            "patients unknown"
            if not patients_known
            else f"patients known of {patients_known:,} of {images:,} images only"
        )
    return "\n".join(lines)


def _format_shares(shares: dict | None) -> str:
    if shares is None:
        return "unknown"
    of_positive = shares["positive_share"]
    return f"{shares['share']:.1%}" + ("" if of_positive is None else f", of positive {of_positive:.1%}")


def audit_leakage(prepared: Prepared, trained_folds: list[int]) -> dict:
    """`measure_leakage` of the images that are scored.

    They are held out in a trained fold, with all other folds as training.
    """
    image_ids = prepared.folds.index.tolist()
    manifest_rows = prepared.manifest.loc[image_ids]
    patients = manifest_rows["patient"].dropna().to_dict()
    labels = manifest_rows["label"].dropna().to_dict()
    audit = measure_leakage(
        prepared.folds.reset_index(drop=True), patients or None, group_duplicates(prepared, image_ids), labels
    )
    scored_ids = prepared.folds.index[prepared.folds["fold"].isin(trained_folds)]
    fold_records = [fold_record for fold_record in audit["folds"] if int(fold_record["fold"]) in trained_folds]
    totals = {name: sum(fold_record[name] for fold_record in fold_records) for name in ("images", "positive")}
    totals |= {trait: _sum_trait([fold_record[trait] for fold_record in fold_records], totals) for trait in TRAITS}
    has_leak = any(totals[trait] and totals[trait]["images"] for trait in TRAITS)
    known_count = sum(name in patients for name in scored_ids)
    return {
        "images": len(scored_ids),
        "patients_known": known_count,
        "folds": fold_records,
        "all": totals,
        "leak": has_leak,
    }


def _sum_trait(trait_records: list[dict | None], totals: dict[str, int]) -> dict | None:
    """A trait's figures of several folds together; None where it is unknown."""
    if None in trait_records:
        return None
    counts = {name: sum(record[name] for record in trait_records) for name in ("images", "positive")}
    shares = {"share": "images", "positive_share": "positive"}
    return counts | {share: counts[n] / totals[n] if totals[n] else None for share, n in shares.items()}


def group_duplicates(prepared: Prepared, image_ids: list[str]) -> dict[str, int]:
    """Number of each image's group of near-duplicates, told by the prepared pixels."""

    def compute_signature(image_id: str):
        canvas = prepared.read_image(image_id)
        return near_duplicates.compute_signature(canvas), near_duplicates.make_thumbnail(canvas)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        signatures = list(pool.map(compute_signature, image_ids))
    return dict(zip(image_ids, near_duplicates.link_pictures(signatures).tolist(), strict=True))


def describe_leakage(audit: dict) -> str:
    """The audit in a sentence, for the table."""
    known_count, image_count = audit["patients_known"], audit["images"]
    patient_text = (
        f"Patients in training too: {_format_share(audit['all']['patient'])}" if known_count else "Patients unknown"
    )
    patient_text += (
        f" (patients known of {known_count} of {image_count} images only)" if 0 < known_count < image_count else ""
    )
    return f"{patient_text}; near-duplicates: {_format_share(audit['all']['duplicate'])}."


def _format_share(trait_record: dict) -> str:
    positive_share = trait_record["positive_share"]
    return f"{100 * trait_record['share']:.1f} % of images" + (
        "" if positive_share is None else f", {100 * positive_share:.1f} % of positive ones"
    )
