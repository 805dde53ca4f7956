"""Pictures of held-out images: the best, the middling, the worst mistakes, and where the members disagree."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from cxr.metrics import dice_of_areas, shown
from pipeline.known import Known, gather
from pipeline.report import cams, thumbnails
from pipeline.report.blocks import Card, Gallery
from pipeline.report.sources import Sources

EACH = 6  # images of a kind: Grad-CAM asks the networks about every one of them


def blocks(run: Sources) -> list:
    """A gallery for each kind; no image stands in two."""
    table = _table(run)
    chosen = choose(table)
    ids = [image_id for rows in chosen.values() for image_id in rows.index]
    maps, failed = cams.maps(run, ids)
    found = [f"Held-out images, at most {EACH} of a kind. {thumbnails.LEGEND}", *failed]
    for (title, (note, _)), rows in zip(KINDS.items(), chosen.values(), strict=True):
        if rows.empty:
            found.append(f"{title}: none.")
            continue
        cards = [_card(run, image_id, row, maps) for image_id, row in rows.iterrows()]
        found.append(Gallery(title, note, cards))
    return found


def _table(run: Sources) -> pd.DataFrame:
    """Held-out cases by image_id, with dice, answer (whether a pneumothorax was said) and spread (of the members)."""
    held_out = (run.cases["split"] == "train").to_numpy()
    table = run.cases[held_out].set_index("image_id")
    members = [name for name in run.scores if name.startswith("member ")]
    spread = run.scores.loc[held_out, members].to_numpy(float).std(axis=1)
    dice = dice_of_areas(*(table[name].to_numpy() for name in ("truth", "found", "overlap")))
    answer = table["found"] > 0 if run.recipe.stage2 else table["positive"]
    if not run.recipe.stage2:  # without masks the probability alone tells good from bad
        dice = 1 - np.abs(table["label"] - table["prob"])
    return table.assign(dice=dice, answer=answer, spread=spread)


def _best(table: pd.DataFrame) -> pd.DataFrame:
    right = table[(table["label"] > 0.5) & table["answer"]]
    return right.sort_values("dice", ascending=False, kind="stable")


def _median(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["label"] > 0.5].sort_values("from_median", kind="stable")


def _false_positives(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["label"] < 0.5) & table["answer"]].sort_values("prob", ascending=False, kind="stable")


def _false_negatives(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["label"] > 0.5) & ~table["answer"]].sort_values("share", ascending=False, kind="stable")


def _disagreement(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["spread"] > 0].sort_values("spread", ascending=False, kind="stable")


KINDS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "Worst false positives": ("Nothing was drawn by hand; the surest of the answers that say so.", _false_positives),
    "Worst false negatives": ("The largest pneumothoraces of which nothing is said.", _false_negatives),
    "Members disagree": ("The members' probabilities lie farthest apart.", _disagreement),
    "Best": ("The best answers to a pneumothorax.", _best),
    "Median": ("Answers to a pneumothorax that are neither good nor bad.", _median),
}
"""Mistakes first: an image that fits several kinds stands under the first."""


def choose(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Kind -> at most EACH rows, the foremost of its order; none twice."""
    median = table.loc[table["label"] > 0.5, "dice"].median()  # of all, not of those that no other kind has taken
    table = table.assign(from_median=(table["dice"] - median).abs())
    chosen, taken = {}, []
    for title, (_, order) in KINDS.items():
        chosen[title] = order(table.drop(index=taken))[:EACH]
        taken += chosen[title].index.tolist()
    return chosen


def _card(run: Sources, image_id: str, row: pd.Series, maps: dict[str, dict[str, np.ndarray]]) -> Card:
    known = gather(image_id, run.recipe, run.paths)
    lines = [_probability(row, known), _members(known)]
    if run.recipe.stage2:
        lines.append(f"Dice {row['dice']:.2f}; lesion {row['share']:.2%} of the image" if row["label"] else "no lesion")
    own = [found[image_id] for found in maps.values() if image_id in found]
    return Card(f"{image_id}, fold {row['fold']}", [line for line in lines if line], thumbnails.panels(known, own))


def _probability(row: pd.Series, known: Known) -> str:
    gate = "" if known.gate is None else f" (gate {shown(known.gate, 2)})"
    return f"probability {shown(row['prob'], 2)}{gate}"


def _members(known: Known) -> str:
    return ", ".join(f"{name.rpartition(' fold ')[0]} {shown(prob, 2)}" for name, prob in known.probs.items())
