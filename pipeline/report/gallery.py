"""Pictures of held-out images: worst mistakes, disagreement of the members, best and median predictions."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from evaluation.metrics import dice_of_areas, format_metric
from pipeline.pictures.image_record import ImageRecord, gather_image_record
from pipeline.report import cams, thumbnails
from pipeline.report.blocks import Card, Gallery
from pipeline.run_files import RunFiles

MAX_PER_KIND = 6  # images of a kind: the networks run on each for Grad-CAM


def build_blocks(run: RunFiles) -> list:
    """A gallery for each kind; no image is in two."""
    table = _build_case_table(run)
    rows_by_kind = choose_images(table)
    image_ids = [image_id for rows in rows_by_kind.values() for image_id in rows.index]
    cams_by_member, failures = cams.load_cams(run, image_ids)
    chapter_blocks = [f"Held-out images, at most {MAX_PER_KIND} of a kind. {thumbnails.LEGEND}", *failures]
    for (title, (note, _)), rows in zip(KINDS.items(), rows_by_kind.values(), strict=True):
        if rows.empty:
            chapter_blocks.append(f"{title}: none.")
            continue
        cards = [_build_card(run, image_id, row, cams_by_member) for image_id, row in rows.iterrows()]
        chapter_blocks.append(Gallery(title, note, cards))
    return chapter_blocks


def _build_case_table(run: RunFiles) -> pd.DataFrame:
    """Held-out cases by image_id, with three more columns.

    dice: of the final mask; without segmenters 1 - |label - probability|
    answer: whether a pneumothorax is predicted
    spread: standard deviation of the members' probabilities
    """
    held_out = (run.case_table["split"] == "train").to_numpy()
    table = run.case_table[held_out].set_index("image_id")
    members = [name for name in run.score_table if name.startswith("member ")]
    spread = run.score_table.loc[held_out, members].to_numpy(float).std(axis=1)
    dice = dice_of_areas(*(table[name].to_numpy() for name in ("truth", "found", "overlap")))
    answer = table["found"] > 0 if run.recipe.stage2 else table["positive"]
    if not run.recipe.stage2:  # without masks only the probability ranks the images
        dice = 1 - np.abs(table["label"] - table["prob"])
    return table.assign(dice=dice, answer=answer, spread=spread)


def _order_best(table: pd.DataFrame) -> pd.DataFrame:
    true_positives = table[(table["label"] > 0.5) & table["answer"]]
    return true_positives.sort_values("dice", ascending=False, kind="stable")


def _order_median(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["label"] > 0.5].sort_values("from_median", kind="stable")


def _order_false_positives(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["label"] < 0.5) & table["answer"]].sort_values("prob", ascending=False, kind="stable")


def _order_false_negatives(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["label"] > 0.5) & ~table["answer"]].sort_values("share", ascending=False, kind="stable")


def _order_disagreement(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["spread"] > 0].sort_values("spread", ascending=False, kind="stable")


KINDS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "Worst false positives": (
        "No mask was drawn by hand, and a pneumothorax is predicted with the highest probability.",
        _order_false_positives,
    ),
    "Worst false negatives": ("The largest pneumothoraces that were not predicted.", _order_false_negatives),
    "Members disagree": ("The members' probabilities lie farthest apart.", _order_disagreement),
    "Best": ("Images with a pneumothorax, predicted best.", _order_best),
    "Median": ("Images with a pneumothorax whose score is nearest to the median.", _order_median),
}
"""Title -> note and order. Mistakes come first: an image that fits several kinds is shown under the first."""


def choose_images(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The first MAX_PER_KIND rows of each kind in its order, by the kind's title; no image twice."""
    median = table.loc[
        table["label"] > 0.5, "dice"
    ].median()  # of all positives, not only of those left over by other kinds
    table = table.assign(from_median=(table["dice"] - median).abs())
    rows_by_kind, taken_ids = {}, []
    for title, (_, order_rows) in KINDS.items():
        rows_by_kind[title] = order_rows(table.drop(index=taken_ids))[:MAX_PER_KIND]
        taken_ids += rows_by_kind[title].index.tolist()
    return rows_by_kind


def _build_card(run: RunFiles, image_id: str, row: pd.Series, cams_by_member: dict[str, dict[str, np.ndarray]]) -> Card:
    record = gather_image_record(image_id, run)
    lines = [_format_probability(row, record), _format_member_probs(record)]
    if run.recipe.stage2:
        lines.append(f"Dice {row['dice']:.2f}; lesion {row['share']:.2%} of the image" if row["label"] else "no lesion")
    image_cams = [member_cams[image_id] for member_cams in cams_by_member.values() if image_id in member_cams]
    pictures = thumbnails.draw_thumbnails(record, image_cams)
    return Card(f"{image_id}, fold {row['fold']}", [line for line in lines if line], pictures)


def _format_probability(row: pd.Series, record: ImageRecord) -> str:
    text = f"probability {format_metric(row['prob'], 2)}"
    if record.probability_threshold is None:
        return text
    return f"{text} (threshold {format_metric(record.probability_threshold, 2)})"


def _format_member_probs(record: ImageRecord) -> str:
    return ", ".join(f"{name.rpartition(' fold ')[0]} {format_metric(prob, 2)}" for name, prob in record.probs.items())
