"""Whether the held-out images' patients, or copies of the images themselves, are in training too."""

import os
from concurrent.futures import ThreadPoolExecutor

from cxr.datasets import near_duplicates
from cxr.datasets.prepared import Prepared
from datatools.audit_folds import measure_leakage

TRAITS = ("patient", "duplicate")


def audit_leakage(prepared: Prepared, trained_folds: list[int]) -> dict:
    """`datatools.audit_folds.measure_leakage` of the images that are scored.

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
