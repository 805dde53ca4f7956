"""How well the probability tells the ill from the well: ROC and precision-recall curves, and reliability."""

import numpy as np
import pandas as pd

from cxr.metrics import log_loss, shown
from cxr.panel import calibration, resample
from pipeline.figure import BLUE, GREEN, ORANGE, RED, new_figure
from pipeline.report.blocks import Picture, Row, Table, vector
from pipeline.report.published import POINTS
from pipeline.report.sources import Sources

SIDE = (4.6, 4.7)  # inches: readable on a phone's width
PARTS = {"train": ("held-out", BLUE), "test": ("test", ORANGE)}
POINTS_OF_A_CURVE = 400
LEAST = 5  # images of a bin that is drawn
BINS = np.linspace(0, 1, calibration.BINS + 1)


def curve_blocks(run: Sources) -> list:
    """ROC and precision-recall, of held-out and of known test images."""
    parts = {split: rows for split, rows in run.cases.groupby("split") if rows["label"].nunique() == 2}
    if not parts:
        return ["All images are of one class: there is no curve to draw."]
    note = (
        "Thin lines are the folds, crosses the point that the decision works at. The published points are their "
        "authors' own, on their own images: the competition's were on patients that partly were in training too."
    )
    return [Row([roc(parts), _precision(parts)]), note]


def roc(parts: dict[str, pd.DataFrame], names: dict[str, tuple[str, str]] = PARTS) -> Picture:
    """ROC curves of sets of cases, by key of `names` (label, colour), with the published points."""
    figure = new_figure(*SIDE, "ROC")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8)
    for key, (name, colour) in names.items():
        if key in parts:
            _roc_of(axis, parts[key], name, colour)
    for (name, (specificity, sensitivity)), marker in zip(POINTS.items(), "sD^v", strict=True):
        axis.plot(1 - specificity, sensitivity, marker, color=GREEN, markersize=5, linestyle="none", label=name)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _finish(axis)
    return vector(figure, "ROC curves with the operating points and published points")


def _roc_of(axis, cases: pd.DataFrame, name: str, colour: str) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    for _, fold in cases.groupby("fold"):
        if fold["label"].nunique() == 2 and cases["fold"].nunique() > 1:
            axis.plot(*_thin(roc_curve(fold["label"], fold["prob"])[:2]), color=colour, linewidth=0.6, alpha=0.45)
    pooled = shown(float(roc_auc_score(cases["label"], cases["prob"])))
    curve = _thin(roc_curve(cases["label"], cases["prob"])[:2])
    axis.plot(*curve, color=colour, linewidth=1.8, label=f"{name}, pooled AUC {pooled}")
    sensitivity, specificity, _ = at_gate(cases)
    axis.plot(1 - specificity, sensitivity, "x", color=colour, markersize=9, markeredgewidth=2)


def at_gate(cases: pd.DataFrame) -> tuple[float, float, float]:
    """Sensitivity, specificity and precision of the decision's gate; nan where undefined."""
    ill, called = cases["label"] > 0.5, cases["positive"]
    return called[ill].mean(), (~called[~ill]).mean(), ill[called].mean() if called.any() else float("nan")


def _thin(points: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS_OF_A_CURVE of a curve's points, its ends among them."""
    kept = np.unique(np.linspace(0, len(points[0]) - 1, POINTS_OF_A_CURVE).astype(int))
    return points[0][kept], points[1][kept]


def _precision(parts: dict[str, pd.DataFrame]) -> Picture:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure = new_figure(*SIDE, "Precision and recall")
    axis = figure.subplots()
    for split, (name, colour) in PARTS.items():
        if split not in parts:
            continue
        cases = parts[split]
        precision, recall, _ = precision_recall_curve(cases["label"], cases["prob"])
        mean = shown(float(average_precision_score(cases["label"], cases["prob"])))
        axis.plot(*_thin((recall, precision)), color=colour, linewidth=1.8, label=f"{name}, average precision {mean}")
        axis.axhline(cases["label"].mean(), color=colour, linewidth=0.8, linestyle=":")
        sensitivity, _, right = at_gate(cases)
        axis.plot(sensitivity, right, "x", color=colour, markersize=9, markeredgewidth=2)
    axis.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _finish(axis)
    return vector(figure, "precision-recall curves; dotted: the share of positives")


def _finish(axis) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False)


def reliability_blocks(run: Sources) -> list:
    """Reliability before and after the calibration, held-out and test."""
    kind = (run.decision.get("calibration") or {}).get("kind")
    pictures, rows = [], []
    for split, (name, _) in PARTS.items():
        chosen = (run.cases["split"] == split).to_numpy()
        if chosen.any():
            before, after = run.scores["uncalibrated"].to_numpy(float)[chosen], run.cases["prob"].to_numpy()[chosen]
            cases = run.cases[chosen]
            pictures.append(_reliability(cases["label"].to_numpy(), before, after, name))
            for when, prob in (("before", before), ("after", after)):
                rows.append([f"{name}, {when}", *_errors(cases, prob)])
    note = (
        f"Calibration: {kind or 'unknown'}, fitted on other images than it is judged on. A bar is a bin's 95 % "
        f"interval (Wilson), by image; bins of fewer than {LEAST} images are not drawn. The calibration error as "
        "counted is too large by chance; the headline's is without that bias."
    )
    table = Table(["probabilities", "log-loss", "Brier", "calibration error, as counted"], rows)
    return [Row(pictures), table, note]


def _errors(cases: pd.DataFrame, prob: np.ndarray) -> list[str]:
    label, patient = cases["label"].to_numpy(), resample.patients(cases)[0]
    bins = calibration.differences(label, prob, patient, np.ones((1, patient.max() + 1), np.uint8))
    return [shown(value) for value in (log_loss(label, prob), np.mean((prob - label) ** 2), np.abs(bins).sum())]


def _reliability(label: np.ndarray, before: np.ndarray, after: np.ndarray, name: str) -> Picture:
    figure = new_figure(*SIDE, f"Reliability, {name}")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8)
    for prob, colour, when in ((before, RED, "before"), (after, BLUE, "after")):
        _bins(upper, label, prob, colour, when)
        lower.hist(prob, BINS, color=colour, histtype="step", linewidth=1.3)
    upper.set(ylabel="share with a pneumothorax", ylim=(-0.02, 1.02))
    lower.set(xlabel="probability", ylabel="images", xlim=(-0.02, 1.02))
    for axis in (upper, lower):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    upper.legend(fontsize=8, frameon=False, loc="upper left")
    return vector(figure, f"reliability diagram of the {name} images before and after calibration")


def _bins(axis, label: np.ndarray, prob: np.ndarray, colour: str, when: str) -> None:
    from scipy.stats import binomtest

    place = np.minimum((prob * calibration.BINS).astype(int), calibration.BINS - 1)
    every = [np.flatnonzero(place == number) for number in range(calibration.BINS)]
    kept = [rows for rows in every if len(rows) >= LEAST]
    share = np.array([label[rows].mean() for rows in kept])
    intervals = [binomtest(int(label[rows].sum()), len(rows)).proportion_ci(method="wilson") for rows in kept]
    reach = np.array([[value - ends.low, ends.high - value] for value, ends in zip(share, intervals, strict=True)])
    means = [prob[rows].mean() for rows in kept]
    axis.errorbar(means, share, np.abs(reach.reshape(-1, 2).T), fmt="o-", color=colour, markersize=4, linewidth=1,
                  elinewidth=0.8, label=f"{when} calibration")  # fmt: skip
