"""The stack beside its members and the plainer stacks."""

import numpy as np
import pandas as pd

from cxr.metrics import log_loss, shown
from cxr.panel import measure, ranking, resample
from pipeline.figure import BLUE, RED, new_figure
from pipeline.report.blocks import Picture, Row, Table, vector, with_interval
from pipeline.report.sources import Sources

RESAMPLES = 500  # a standard error to 3 %; the page is drawn, not read off
STACKERS = {
    "mean": "mean of the members' logits", "logistic": "logistic stack of the logits", "lightgbm": "LightGBM",
    "dense": "dense head on their features",
}  # fmt: skip
PARTS = {"train": "held-out", "test": "test"}


def blocks(run: Sources) -> list:
    """AUC of every member and stacker with its interval, and its log-loss."""
    used = run.metrics.get("stacker", {}).get("used")
    names = {name: _title(name, used) for name in run.scores if name.startswith("member ") or name in STACKERS}
    judged = {split: _judged(run, split, list(names)) for split in PARTS if (run.cases["split"] == split).any()}
    pictures = [_picture(found, names, used, PARTS[split]) for split, found in judged.items()]
    rows = [
        [title, *(text for found in judged.values() for text in _texts(found[name]))] for name, title in names.items()
    ]
    header = ["", *(f"{PARTS[split]}, {what}" for split in judged for what in ("AUC", "log-loss"))]
    note = f"AUC: mean over the folds, of pairs that one head scored; 95 % intervals from {RESAMPLES} resamples."
    return [Row(pictures), Table(header, rows), note]


def _title(name: str, used: str | None) -> str:
    if name.startswith("member "):
        member = name.removeprefix("member ")
        return "the segmenters' maps" if member == "maps" else member
    return STACKERS[name] + (" ← in use" if name == used else "")


def _judged(run: Sources, split: str, names: list[str]) -> dict[str, dict]:
    """auc (value, low, high) and log_loss of each column."""
    chosen = (run.cases["split"] == split).to_numpy()
    cases, scores = run.cases[chosen].reset_index(drop=True), run.scores[chosen]
    patient, _ = resample.patients(cases)
    counts = resample.draw(int(patient.max()) + 1, RESAMPLES, seed=1)
    bearers = measure.bearers(cases, patient)
    return {name: _one(cases, scores[name].to_numpy(float), patient, counts, bearers) for name in names}


def _one(cases: pd.DataFrame, prob: np.ndarray, patient: np.ndarray, counts: np.ndarray, bearers: dict) -> dict:
    label, fold, head = (cases[name].to_numpy() for name in ("label", "fold", "head"))
    sampled = ranking.auc_of_folds(label, prob, fold, head, patient, counts)
    found = measure.figure("auc", measure.draws("auc", sampled, bearers))
    return {"auc": found, "log_loss": log_loss(label, prob)}


def _texts(found: dict) -> tuple[str, str]:
    return with_interval(found["auc"]), shown(found["log_loss"])


def _picture(found: dict[str, dict], names: dict[str, str], used: str | None, part: str) -> Picture:
    figure = new_figure(4.6, 1.4 + 0.32 * len(names), f"AUC, {part}")
    axis = figure.subplots()
    for place, name in enumerate(names):
        auc = found[name]["auc"]
        if auc["value"] is None:
            continue
        colour = RED if name == used else BLUE
        if auc["low"] is not None:
            axis.plot([auc["low"], auc["high"]], [place, place], color=colour, linewidth=1.5)
        axis.plot(auc["value"], place, "o", color=colour, markersize=5)
    axis.set_yticks(range(len(names)), [_short(name) for name in names.values()], fontsize=8)
    axis.set(ylim=(len(names) - 0.5, -0.5), xlabel="AUC")
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    return vector(figure, f"AUC of members and stackers with intervals, {part}; red: in use")


def _short(title: str, longest: int = 28) -> str:
    return title if len(title) <= longest else f"{title[: longest - 1]}…"
