"""The headline: every metric with its interval, for all images and by group of images."""

from cxr.errors import UsageError
from pipeline.report.blocks import FoldedBlock, Table, format_with_interval
from pipeline.run_files import RunFiles
from stage3_stack.config.wording import NESTING_NOTES

PART_TITLES = {"held_out": "held-out", "test": "test"}
METRIC_TITLES = {
    "auc": "AUC, mean over folds",
    "auc_pooled": "AUC, all folds pooled",
    "average_precision": "average precision",
    "sensitivity": "sensitivity at the probability threshold",
    "specificity": "specificity at the probability threshold",
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
GROUP_METRICS = (
    "auc", "sensitivity", "specificity", "sensitivity_at_specificity_93", "calibration_error", "kaggle_dice", "floor",
    "positives_dice", "lesion_sensitivity",
)  # fmt: skip
SIZE_NOTE = "A size is a third of the lesions, scored together with all images without a lesion."
HEADLINE_NOTE = """\
An AUC compares only images that one head scored. Floors: .5 of an AUC; of Kaggle's Dice the share of images without a
pneumothorax. Held-out: no image was seen by the networks, the heads, the calibration or the thresholds that judge it;
but the decision alone is nested"""


def build_blocks(run: RunFiles) -> list:
    """The table of all metrics, what the figures are held out from, and a folded table for each group."""
    parts = {name: run.metric_panel[name] for name in PART_TITLES if run.metric_panel.get(name)}
    columns = {PART_TITLES[name]: part for name, part in parts.items()}
    chapter_blocks = [_describe_resamples(parts, run.metric_panel), build_metric_table(columns), _describe_nesting(run)]
    for name, part in parts.items():
        tables = [_build_group_table(column, groups) for column, groups in part["by"].items() if groups]
        chapter_blocks.append(
            FoldedBlock(f"{PART_TITLES[name]} images by group", [*tables, SIZE_NOTE], open=name == "held_out")
        )
    if "test" not in parts:
        chapter_blocks.append("The test images' truth is not known, so there are no figures for them.")
    return chapter_blocks


def _describe_nesting(run: RunFiles) -> str:
    """How far the figures are held out, in general and, where decision.json names it, for the decision's nesting."""
    try:
        return f"{HEADLINE_NOTE}: {NESTING_NOTES[run.decision_record['held_out']['nested_by']]}."
    except (UsageError, KeyError, TypeError):
        return f"{HEADLINE_NOTE}."


def _describe_resamples(parts: dict[str, dict], panel: dict) -> str:
    return f"95 % intervals from {panel['resamples']:,} resamples: " + "; ".join(
        f"{PART_TITLES[name]} {part['resampled']}, predictive values at a prevalence of {part['prevalence']:.1%}"
        for name, part in parts.items()
    ) + "."  # fmt: skip


def build_metric_table(parts: dict[str, dict]) -> Table:
    """A table with a row for each metric and a column for each part.

    parts: parts of metric panels by the column's title, each with all, images, positives and patients
    """
    names = [name for name in METRIC_TITLES if any(name in part["all"] for part in parts.values())]
    rows = [
        [METRIC_TITLES[name], *(format_with_interval(part["all"].get(name)) for part in parts.values())]
        for name in names
    ]
    count_row = ["images (with a pneumothorax)", *(_format_counts(part) for part in parts.values())]
    patient_row = ["patients", *(f"{part['patients']:,}" if part["patients"] else "unknown" for part in parts.values())]
    return Table(["", *parts], [count_row, patient_row, *rows])


def _format_counts(part: dict) -> str:
    return f"{part['images']:,} ({part['positives']:,})"


def _build_group_table(column: str, groups: dict[str, dict]) -> Table:
    names = [name for name in GROUP_METRICS if any(name in group for group in groups.values())]
    rows = [
        [group, _format_counts(group_panel), *(format_with_interval(group_panel.get(name), 2) for name in names)]
        for group, group_panel in groups.items()
    ]
    return Table([column, "images", *(METRIC_TITLES[name].removeprefix("– ") for name in names)], rows)
