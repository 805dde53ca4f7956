"""The stack compared with its members and with simpler stacks."""

import numpy as np
import pandas as pd

from evaluation import metric_list, ranking, resampling
from evaluation.metrics import format_metric, log_loss
from pipeline.pictures.figure import BLUE, RED, create_figure
from pipeline.report.blocks import Picture, PictureRow, Table, embed_svg, format_with_interval
from pipeline.run_files import RunFiles
from stage3_stack.config.wording import STACKER_TITLES

RESAMPLES = 500  # the standard error is then known to 3 %, enough for a drawing
SPLIT_TITLES = {"train": "held-out", "test": "test"}


def build_blocks(run: RunFiles) -> list:
    """AUC of every member and stacker with its interval, and its log-loss."""
    used_stacker = run.stage3_metrics.get("stacker", {}).get("used")
    names = {
        name: _stacker_title(name, used_stacker)
        for name in run.score_table
        if name.startswith("member ") or name in STACKER_TITLES
    }
    splits = [split for split in SPLIT_TITLES if (run.case_table["split"] == split).any()]
    scores_by_split = {split: _score_columns(run, split, list(names)) for split in splits}
    pictures = [
        _draw_auc_chart(column_scores, names, used_stacker, SPLIT_TITLES[split])
        for split, column_scores in scores_by_split.items()
    ]
    rows = [[title, *_format_row(scores_by_split, name)] for name, title in names.items()]
    header = ["", *(f"{SPLIT_TITLES[split]}, {metric}" for split in splits for metric in ("AUC", "log-loss"))]
    note = f"AUC: mean over the folds, of pairs that one head scored; 95 % intervals from {RESAMPLES} resamples."
    return [PictureRow(pictures), Table(header, rows), note]


def _stacker_title(name: str, used_stacker: str | None) -> str:
    if name.startswith("member "):
        member = name.removeprefix("member ")
        return "the segmenters' maps" if member == "maps" else member
    return STACKER_TITLES[name] + (" ← in use" if name == used_stacker else "")


def _score_columns(run: RunFiles, split: str, names: list[str]) -> dict[str, dict]:
    """auc (value, low, high) and log_loss of each column of the scores, by its name."""
    in_split = (run.case_table["split"] == split).to_numpy()
    cases, scores = run.case_table[in_split].reset_index(drop=True), run.score_table[in_split]
    patient, _ = resampling.number_patients(cases)
    counts = resampling.draw_resamples(int(patient.max()) + 1, RESAMPLES, seed=1)
    patient_counts = metric_list.count_patients_by_metric(cases, patient)
    return {name: _score_column(cases, scores[name].to_numpy(float), patient, counts, patient_counts) for name in names}


def _score_column(
    cases: pd.DataFrame, prob: np.ndarray, patient: np.ndarray, counts: np.ndarray, patient_counts: dict
) -> dict:
    label, fold, head = (cases[name].to_numpy() for name in ("label", "fold", "head"))
    auc_samples = ranking.compute_mean_fold_auc(label, prob, fold, head, patient, counts)
    auc = metric_list.estimate_metric("auc", metric_list.build_resampled_metric("auc", auc_samples, patient_counts))
    return {"auc": auc, "log_loss": log_loss(label, prob)}


def _format_row(scores_by_split: dict[str, dict[str, dict]], name: str) -> list[str]:
    """AUC with interval and log-loss of one column, split by split."""
    scores = [column_scores[name] for column_scores in scores_by_split.values()]
    return [text for score in scores for text in (format_with_interval(score["auc"]), format_metric(score["log_loss"]))]


def _draw_auc_chart(
    column_scores: dict[str, dict], names: dict[str, str], used_stacker: str | None, split_title: str
) -> Picture:
    figure = create_figure(4.6, 1.4 + 0.32 * len(names), f"AUC, {split_title}")
    axis = figure.subplots()
    for position, name in enumerate(names):
        auc = column_scores[name]["auc"]
        if auc["value"] is None:
            continue
        colour = RED if name == used_stacker else BLUE
        if auc["low"] is not None:
            axis.plot([auc["low"], auc["high"]], [position, position], color=colour, linewidth=1.5)
        axis.plot(auc["value"], position, "o", color=colour, markersize=5)
    axis.set_yticks(range(len(names)), [_shorten_title(name) for name in names.values()], fontsize=8)
    axis.set(ylim=(len(names) - 0.5, -0.5), xlabel="AUC")
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    return embed_svg(figure, f"AUC of members and stackers with intervals, {split_title}; red: in use")


def _shorten_title(title: str, max_length: int = 28) -> str:
    return title if len(title) <= max_length else f"{title[: max_length - 1]}…"
