"""How well the probability separates positives from negatives: ROC, precision-recall and reliability curves."""

import numpy as np
import pandas as pd

from evaluation import calibration_error, resampling
from evaluation.metrics import format_metric, log_loss
from pipeline.pictures.figure import BLUE, GREEN, ORANGE, RED, create_figure
from pipeline.report.blocks import Picture, PictureRow, Table, embed_svg
from pipeline.report.published_scores import PUBLISHED_POINTS
from pipeline.run_files import RunFiles

FIGURE_SIZE = (4.6, 4.7)  # inches: readable on a phone's width
SPLIT_STYLES = {"train": ("held-out", BLUE), "test": ("test", ORANGE)}
MAX_CURVE_POINTS = 400
MIN_PER_BIN = 5  # images; a bin of fewer is not drawn
BIN_EDGES = np.linspace(0, 1, calibration_error.BINS + 1)


def build_curve_blocks(run: RunFiles) -> list:
    """ROC and precision-recall curves of held-out and of known test images."""
    cases_by_split = {split: rows for split, rows in run.case_table.groupby("split") if rows["label"].nunique() == 2}
    if not cases_by_split:
        return ["All images are of one class: there is no curve to draw."]
    note = (
        "Thin lines are the folds, crosses the decision's operating point. The published points are as their authors "
        "report them, on other images: the competition's test set had some patients that were in training too."
    )
    return [PictureRow([draw_roc(cases_by_split), _draw_precision_recall(cases_by_split)]), note]


def draw_roc(cases_by_key: dict[str, pd.DataFrame], styles: dict[str, tuple[str, str]] = SPLIT_STYLES) -> Picture:
    """ROC curves with the published points.

    cases_by_key: tables.CASES by key
    styles: (label, colour) by the same keys
    """
    figure = create_figure(*FIGURE_SIZE, "ROC")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8)
    for key, (name, colour) in styles.items():
        if key in cases_by_key:
            _plot_roc(axis, cases_by_key[key], name, colour)
    for (name, (specificity, sensitivity)), marker in zip(PUBLISHED_POINTS.items(), "sD^v", strict=True):
        axis.plot(1 - specificity, sensitivity, marker, color=GREEN, markersize=5, linestyle="none", label=name)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _style_axis(axis)
    return embed_svg(figure, "ROC curves with the operating points and published points")


def _plot_roc(axis, cases: pd.DataFrame, name: str, colour: str) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    for _, fold in cases.groupby("fold"):
        if fold["label"].nunique() == 2 and cases["fold"].nunique() > 1:
            axis.plot(*_thin_curve(roc_curve(fold["label"], fold["prob"])[:2]), color=colour, linewidth=0.6, alpha=0.45)
    pooled_auc = format_metric(float(roc_auc_score(cases["label"], cases["prob"])))
    curve = _thin_curve(roc_curve(cases["label"], cases["prob"])[:2])
    axis.plot(*curve, color=colour, linewidth=1.8, label=f"{name}, pooled AUC {pooled_auc}")
    sensitivity, specificity, _ = compute_threshold_rates(cases)
    axis.plot(1 - specificity, sensitivity, "x", color=colour, markersize=9, markeredgewidth=2)


def compute_threshold_rates(cases: pd.DataFrame) -> tuple[float, float, float]:
    """Sensitivity, specificity and precision at the decision's probability threshold; nan where undefined."""
    positive, predicted_positive = cases["label"] > 0.5, cases["positive"]
    return (
        predicted_positive[positive].mean(),
        (~predicted_positive[~positive]).mean(),
        positive[predicted_positive].mean() if predicted_positive.any() else float("nan"),
    )


def _thin_curve(points: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_CURVE_POINTS of a curve's points, with both ends; points: x and y, [n] each."""
    indices = np.unique(np.linspace(0, len(points[0]) - 1, MAX_CURVE_POINTS).astype(int))
    return points[0][indices], points[1][indices]


def _draw_precision_recall(cases_by_split: dict[str, pd.DataFrame]) -> Picture:
    figure = create_figure(*FIGURE_SIZE, "Precision and recall")
    axis = figure.subplots()
    for split, (name, colour) in SPLIT_STYLES.items():
        if split in cases_by_split:
            _plot_precision_recall(axis, cases_by_split[split], name, colour)
    axis.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _style_axis(axis)
    return embed_svg(figure, "precision-recall curves; dotted: the share of positives")


def _plot_precision_recall(axis, cases: pd.DataFrame, name: str, colour: str) -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(cases["label"], cases["prob"])
    mean_precision = format_metric(float(average_precision_score(cases["label"], cases["prob"])))
    label = f"{name}, average precision {mean_precision}"
    axis.plot(*_thin_curve((recall, precision)), color=colour, linewidth=1.8, label=label)
    axis.axhline(cases["label"].mean(), color=colour, linewidth=0.8, linestyle=":")
    sensitivity, _, threshold_precision = compute_threshold_rates(cases)
    axis.plot(sensitivity, threshold_precision, "x", color=colour, markersize=9, markeredgewidth=2)


def _style_axis(axis) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False)


def build_reliability_blocks(run: RunFiles) -> list:
    """Reliability before and after the calibration, for held-out and test images."""
    kind = (run.decision_record.get("calibration") or {}).get("kind")
    pictures, rows = [], []
    for split, (name, _) in SPLIT_STYLES.items():
        in_split = (run.case_table["split"] == split).to_numpy()
        if in_split.any():
            cases, uncalibrated = run.case_table[in_split], run.score_table["uncalibrated"].to_numpy(float)[in_split]
            probs = {"before": uncalibrated, "after": cases["prob"].to_numpy()}
            pictures.append(_draw_reliability(cases["label"].to_numpy(), probs, name))
            rows += [[f"{name}, {when}", *_format_calibration_errors(cases, prob)] for when, prob in probs.items()]
    note = (
        f"Calibration: {kind or 'unknown'}, fitted on other images than it is scored on. A bar is a bin's 95 % "
        f"interval (Wilson), by image; bins of fewer than {MIN_PER_BIN} images are not drawn. The calibration error as "
        "counted is biased upwards by chance; the headline's is without that bias."
    )
    table = Table(["probabilities", "log-loss", "Brier", "calibration error, as counted"], rows)
    return [PictureRow(pictures), table, note]


def _format_calibration_errors(cases: pd.DataFrame, prob: np.ndarray) -> list[str]:
    """Log-loss, Brier score and calibration error of probabilities [n], as texts."""
    label, patient = cases["label"].to_numpy(), resampling.number_patients(cases)[0]
    counts = np.ones((1, patient.max() + 1), np.uint8)  # every patient once
    bin_differences = calibration_error.compute_bin_differences(label, prob, patient, counts)
    errors = (log_loss(label, prob), np.mean((prob - label) ** 2), np.abs(bin_differences).sum())
    return [format_metric(error) for error in errors]


def _draw_reliability(label: np.ndarray, probs: dict[str, np.ndarray], name: str) -> Picture:
    """Reliability curves and histograms of the probabilities before and after the calibration; label, probs: [n]."""
    figure = create_figure(*FIGURE_SIZE, f"Reliability, {name}")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8)
    for (when, prob), colour in zip(probs.items(), (RED, BLUE), strict=True):
        _plot_bins(upper, label, prob, colour, when)
        lower.hist(prob, BIN_EDGES, color=colour, histtype="step", linewidth=1.3)
    upper.set(ylabel="share with a pneumothorax", ylim=(-0.02, 1.02))
    lower.set(xlabel="probability", ylabel="images", xlim=(-0.02, 1.02))
    for axis in (upper, lower):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    upper.legend(fontsize=8, frameon=False, loc="upper left")
    return embed_svg(figure, f"reliability diagram of the {name} images before and after calibration")


def _plot_bins(axis, label: np.ndarray, prob: np.ndarray, colour: str, when: str) -> None:
    from scipy.stats import binomtest

    bin_index = np.minimum((prob * calibration_error.BINS).astype(int), calibration_error.BINS - 1)
    rows_by_bin = [np.flatnonzero(bin_index == number) for number in range(calibration_error.BINS)]
    drawn_bins = [rows for rows in rows_by_bin if len(rows) >= MIN_PER_BIN]
    share = np.array([label[rows].mean() for rows in drawn_bins])
    intervals = [binomtest(int(label[rows].sum()), len(rows)).proportion_ci(method="wilson") for rows in drawn_bins]
    error_bars = np.array(
        [[value - interval.low, interval.high - value] for value, interval in zip(share, intervals, strict=True)]
    )
    means = [prob[rows].mean() for rows in drawn_bins]
    axis.errorbar(means, share, np.abs(error_bars.reshape(-1, 2).T), fmt="o-", color=colour, markersize=4, linewidth=1,
                  elinewidth=0.8, label=f"{when} calibration")  # fmt: skip
