"""Whether the held-out images' patients, or copies of the images themselves, are in training too."""

import os
from concurrent.futures import ThreadPoolExecutor

from cxr import duplicates
from cxr.leaks import leaks
from cxr.prepared import Prepared

TRAITS = ("patient", "duplicate")


def audited(prepared: Prepared, trained: list[int]) -> dict:
    """`cxr.leaks.leaks` of the images that are scored: held out in a trained fold, with all other folds as training."""
    ids = prepared.folds.index.tolist()
    about = prepared.manifest.loc[ids]
    patients = about["patient"].dropna().to_dict()
    labels = about["label"].dropna().to_dict()
    found = leaks(prepared.folds.reset_index(drop=True), patients or None, copies(prepared, ids), labels)
    scored = prepared.folds.index[prepared.folds["fold"].isin(trained)]
    parts = [part for part in found["folds"] if int(part["fold"]) in trained]
    whole = {name: sum(part[name] for part in parts) for name in ("images", "positive")}
    whole |= {trait: _summed([part[trait] for part in parts], whole) for trait in TRAITS}
    leak = any(whole[trait] and whole[trait]["images"] for trait in TRAITS)
    known = sum(name in patients for name in scored)
    return {"images": len(scored), "patients_known": known, "folds": parts, "all": whole, "leak": leak}


def _summed(parts: list[dict | None], whole: dict[str, int]) -> dict | None:
    """A trait's figures of several folds together; None where it is unknown."""
    if None in parts:
        return None
    counts = {name: sum(part[name] for part in parts) for name in ("images", "positive")}
    shares = {"share": "images", "positive_share": "positive"}
    return counts | {share: counts[n] / whole[n] if whole[n] else None for share, n in shares.items()}


def copies(prepared: Prepared, ids: list[str]) -> dict[str, int]:
    """Number of each image's group of near-duplicates, told by the prepared pixels."""

    def one(image_id: str):
        canvas = prepared.image(image_id)
        return duplicates.signature(canvas), duplicates.thumbnail(canvas)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(one, ids))
    return dict(zip(ids, duplicates.linked(pictures).tolist(), strict=True))


def described(found: dict) -> str:
    """The audit in a sentence, for the table."""
    known, images = found["patients_known"], found["images"]
    first = f"Patients in training too: {_of(found['all']['patient'])}" if known else "Patients unknown"
    first += f" (patients known of {known} of {images} images only)" if 0 < known < images else ""
    return f"{first}; near-duplicates: {_of(found['all']['duplicate'])}."


def _of(share: dict) -> str:
    ill = share["positive_share"]
    return f"{100 * share['share']:.1f} % of images" + ("" if ill is None else f", {100 * ill:.1f} % of positive ones")
