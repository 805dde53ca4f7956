"""The headline: every metric with its interval beside its floor, for all images and by group."""

from cxr.errors import UsageError
from pipeline.report.blocks import Folded, Table, with_interval
from pipeline.report.sources import Sources

PARTS = {"held_out": "held-out", "test": "test"}
METRICS = {
    "auc": "AUC, mean over folds",
    "auc_pooled": "AUC, all folds pooled",
    "average_precision": "average precision",
    "sensitivity": "sensitivity at the gate",
    "specificity": "specificity at the gate",
    "sensitivity_at_specificity_93": "sensitivity at specificity .93",
    "sensitivity_at_specificity_95": "sensitivity at specificity .95",
    "specificity_at_sensitivity_95": "specificity at sensitivity .95",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "brier": "Brier score (0 is best)",
    "log_loss": "log-loss (0 is best)",
    "calibration_error": "expected calibration error (0 is best)",
    "kaggle_dice": "Kaggle's Dice (empty on empty is 1)",
    "floor": "– its floor: every mask empty",
    "positives_dice": "Dice, images with a pneumothorax",
    "positives_iou": "IoU, images with a pneumothorax",
    "lesion_sensitivity": "share of lesions that a mask touches",
    "false_parts_per_image": "false parts of masks per image",
    "nsd": "surface within 5 px, all images",
    "positives_nsd": "surface within 5 px, with a pneumothorax",
}
GROUPED = (
    "auc", "sensitivity", "specificity", "sensitivity_at_specificity_93", "calibration_error", "kaggle_dice", "floor",
    "positives_dice", "lesion_sensitivity",
)  # fmt: skip
SIZES = "A size is a third of the lesions, judged against all images without one."
NOTE = """\
An AUC compares only images that one head scored. Floors: .5 of an AUC; of Kaggle's Dice the share of images without a
pneumothorax. Held-out: no image was seen by the networks, the heads, the calibration or the thresholds that judge it;
but the decision alone is nested"""
NESTED = {
    "fold": "the other folds' networks, by which it was chosen, saw the images that it judges",
    "subfold": "the heads that scored the other subfolds, by which it was chosen, were trained with the labels of the "
    "images that it judges; no other network was used",
}
"""What a decision that is nested by this still owes to the images that it judges."""


def blocks(run: Sources) -> list:
    """Both tables."""
    parts = {name: run.panel[name] for name in PARTS if run.panel.get(name)}
    columns = {PARTS[name]: part for name, part in parts.items()}
    found = [_described(parts, run.panel), table(columns), _note(run)]
    for name, part in parts.items():
        tables = [_by(column, groups) for column, groups in part["by"].items() if groups]
        found.append(Folded(f"{PARTS[name]} images by group", [*tables, SIZES], open=name == "held_out"))
    if "test" not in parts:
        found.append("The test images' truth is not known: no figure of them.")
    return found


def _note(run: Sources) -> str:
    """How far the figures are held out; without decision.json's words the general half of it."""
    try:
        return f"{NOTE}: {NESTED[run.decision['held_out']['nested_by']]}."
    except (UsageError, KeyError, TypeError):
        return f"{NOTE}."


def _described(parts: dict[str, dict], panel: dict) -> str:
    return f"95 % intervals from {panel['resamples']:,} resamples: " + "; ".join(
        f"{PARTS[name]} {part['resampled']}, predictive values at a prevalence of {part['prevalence']:.1%}"
        for name, part in parts.items()
    ) + "."  # fmt: skip


def table(parts: dict[str, dict]) -> Table:
    """Every metric of parts of panels, a column each."""
    names = [name for name in METRICS if any(name in part["all"] for part in parts.values())]
    rows = [[METRICS[name], *(with_interval(part["all"].get(name)) for part in parts.values())] for name in names]
    described = ["images (with a pneumothorax)", *(_count(part) for part in parts.values())]
    patients = ["patients", *(f"{part['patients']:,}" if part["patients"] else "unknown" for part in parts.values())]
    return Table(["", *parts], [described, patients, *rows])


def _count(part: dict) -> str:
    return f"{part['images']:,} ({part['positives']:,})"


def _by(column: str, groups: dict[str, dict]) -> Table:
    names = [name for name in GROUPED if any(name in group for group in groups.values())]
    rows = [
        [group, _count(found), *(with_interval(found.get(name), 2) for name in names)]
        for group, found in groups.items()
    ]
    return Table([column, "images", *(METRICS[name].removeprefix("– ") for name in names)], rows)
