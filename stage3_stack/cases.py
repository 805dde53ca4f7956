"""What was judged, image by image (tables.CASES), with the probabilities of all members and stackers beside it."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import kaggle, rle, tables
from cxr.panel.groups import CHEST_TUBE
from cxr.panel.masks import judged
from cxr.prepared import Prepared
from stage3_stack import config
from stage3_stack.combine import member, scored_by
from stage3_stack.decide import Decisions
from stage3_stack.masks import Images, Seen, final_mask
from stage3_stack.stack import KINDS
from stage3_stack.thresholds import Cut, drawn, passes

NOTHING = {"truth": 0, "found": 0, "overlap": 0, "lesions": 0, "hit": 0, "extra": 0, "nsd": 1.0}
"""Of an image without a lesion that got no mask."""


def held_out(
    table: pd.DataFrame, prepared: Prepared, seen: Seen | None, decisions: Decisions, group: np.ndarray
) -> pd.DataFrame:
    """The held-out images, each under the decision of its own group; `table`'s columns and those of tables.CASES.

    table: indexed by image_id, with label, fold, subfold, prob, positive; seen: the same images in the same order, None
    without segmenters.
    """
    truth = prepared.manifest.loc[table.index, "rle"].to_dict()
    table = table.assign(head=scored_by(table))
    if seen is None:
        return _described(table, prepared, unseen(truth))
    cuts = [decision.cut for decision in decisions.of(group)]
    return _described(table, prepared, masks(seen.images, kept(table, seen, decisions, group), cuts, prepared, truth))


def kept(table: pd.DataFrame, seen: Seen, decisions: Decisions, group: np.ndarray) -> np.ndarray:
    """Which held-out images get a mask, bool [n], by the decision of their own group [n]."""
    keep, prob = np.zeros(len(table), bool), table["prob"].to_numpy()
    for key, decision in decisions.groups.items():
        keep[group == key] = drawn(decision, seen.counts[group == key], prob[group == key])
    return keep


def test(
    table: pd.DataFrame, prepared: Prepared, seen: Seen | None, decisions: Decisions, truth: dict[str, str]
) -> pd.DataFrame:
    """The test images whose truth is known, under the test's decision, as `held_out`; truth: RLE by image_id."""
    counts, prob = seen and seen.counts, table["prob"].to_numpy()
    table = table.assign(fold=-1, head=0, positive=passes(decisions.test, counts, prob))
    if seen is None:
        found = unseen(truth).loc[table.index]
    else:
        keep = drawn(decisions.test, counts, prob)
        found = masks(seen.images, keep, [decisions.test.cut] * len(table), prepared, truth)
    return _described(table.assign(label=(found["truth"] > 0).astype(float)), prepared, found)


def masks(images: Images, keep: np.ndarray, cuts: list[Cut], prepared: Prepared, truth: dict[str, str]) -> pd.DataFrame:
    """`cxr.panel.masks.judged` of each image's final mask under its cut, where `keep` [n], else of an empty one.

    truth: RLE of the hand-drawn mask by image_id. Two empty masks need not be decoded.
    """

    def one(place: int) -> dict[str, int | float]:
        image_id = images.ids[place]
        code = truth[image_id]
        if not keep[place] and not len(rle.runs(code)):
            return NOTHING
        box = prepared.letterbox(image_id)
        drawn_by_hand = rle.decode(code, box.height, box.width)
        if not keep[place]:
            return judged(drawn_by_hand, np.zeros_like(drawn_by_hand))
        return judged(drawn_by_hand, final_mask(images.maps[place].mean(image_id), box, cuts[place]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return pd.DataFrame(list(pool.map(one, range(len(keep)))), index=images.ids, columns=list(NOTHING))


def unseen(truth: dict[str, str]) -> pd.DataFrame:
    """The same where there are no segmenters: the area of the truth alone, and no surface distance."""
    areas = [int(np.diff(rle.runs(code), axis=1).sum()) for code in truth.values()]
    return pd.DataFrame(NOTHING | {"nsd": np.nan}, index=list(truth)).assign(truth=areas)


def _described(table: pd.DataFrame, prepared: Prepared, found: pd.DataFrame) -> pd.DataFrame:
    about = prepared.manifest.loc[table.index]
    table = table.join(about[["patient", "age", "sex", "view"]]).join(found)
    share = table["truth"] / (about["height"] * about["width"])
    return table.assign(share=share, image_id=table.index)


def chest_tubes(data: Path) -> pd.Series | None:
    """Whether a chest tube is seen, 1 or 0, by image_id; None where the data has no table of them."""
    path = config.chest_tubes(data)
    return None if path is None else pd.Series(kaggle.chest_tubes(path), dtype=float)


def with_chest_tubes(rows: pd.DataFrame, tubes: pd.Series | None) -> pd.DataFrame:
    """The rows, indexed by image_id, with a column chest_tube (1, 0 or NaN) where there is a table of them."""
    return rows if tubes is None else rows.assign(**{CHEST_TUBE: tubes.reindex(rows.index)})


def write(folder: Path, rows: pd.DataFrame, members: Iterable[str]) -> None:
    """Write cases.parquet and scores.parquet: of the same images, what each member and each stacker says.

    rows: of `held_out` and `test`, with the columns of the stacks, and `uncalibrated` of those in use.
    """
    tubes = {CHEST_TUBE: "float"} if CHEST_TUBE in rows else {}
    tables.write(rows, folder / "cases.parquet", tables.CASES | tubes)
    scores = rows[["image_id", *map(member, members), *KINDS, "uncalibrated"]]
    schema = dict.fromkeys(scores, "float") | {"image_id": "str"}
    tables.write(scores, folder / "scores.parquet", schema)
