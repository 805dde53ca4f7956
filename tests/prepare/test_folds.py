"""Folds: no patient in two, strata alike, and a refusal with the counts where there are too few."""

import warnings

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.datasets import near_duplicates
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError
from prepare import folds


def manifest(patients: int, seed: int = 0, positive: float = 0.3, most: int = 4, known: bool = True) -> pd.DataFrame:
    """Images of `patients` people, 1 to `most` each; a share of people has masks of log-uniform size."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        sick = patient < positive * patients
        for number in range(random.integers(1, most + 1)):
            area = int(10 ** random.uniform(2, 5)) if sick and (number == 0 or random.random() < 0.5) else 0
            name = f"{patient}.{number}"
            rows.append((name, "train", name, f"p{patient}" if known else None, float(area > 0), area))
    table = pd.DataFrame(rows, columns=["image_id", "split", "path", "patient", "label", "mask_area"])
    table = table.assign(age=50.0, sex="F", view="PA", height=1000, width=1000, rle="-1")
    return tables.enforce_schema(table, tables.MANIFEST, "test")


def joined(table: pd.DataFrame, *counts: int, **options) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return folds.assign_folds(table, *counts, **options).merge(table, on="image_id", validate="one_to_one")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [(5, 4), (3, 2), (2, 1)])
def test_a_patient_is_in_one_fold_and_one_subfold(seed, counts):
    found = joined(manifest(200, seed), *counts, seed)
    assert len(found) == len(manifest(200, seed))
    assert found.groupby("patient")[["fold", "subfold"]].nunique().max().tolist() == [1, 1]
    parts = set(zip(found["fold"], found["subfold"], strict=True))
    assert parts == {(fold, subfold) for fold in range(counts[0]) for subfold in range(counts[1])}


def test_folds_are_alike():
    found = joined(manifest(600, positive=0.25), 5, 4, 1)
    size = found.groupby("fold").size()
    assert size.max() - size.min() < 0.1 * size.mean()
    share = found.groupby("fold")["label"].mean()
    assert share.max() - share.min() < 0.05
    largest = found["mask_area"] > found.loc[found["label"] == 1, "mask_area"].quantile(2 / 3)
    of_largest = largest.groupby(found["fold"]).sum()
    assert of_largest.max() - of_largest.min() <= 0.4 * of_largest.mean()
    share = found.groupby(["fold", "subfold"])["label"].mean()
    assert share.between(0.5 * share.mean(), 1.5 * share.mean()).all()


def test_the_seed_decides():
    table = manifest(60)
    once, again, other = (folds.assign_folds(table, 3, 2, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(once, again)
    assert not once.equals(other)
    pd.testing.assert_frame_equal(once, folds.assign_folds(table, 3, 2, 1)[list(tables.FOLDS)])


def test_only_labelled_training_images():
    table = manifest(40)
    table.loc[0, "split"], table.loc[1, "label"], table.loc[1, "split"] = "test", None, "unlabelled"
    assert set(folds.assign_folds(table, 2, 2, 1)["image_id"]) == set(table["image_id"][2:])


@pytest.mark.parametrize("seed", range(10))
def test_a_dozen_patients_half_of_them_positive(seed):
    found = joined(manifest(12, seed, positive=0.5), 2, 2, seed)
    both = found.groupby(["fold", "subfold"])["label"].nunique()
    assert (both == 2).all()


@pytest.mark.parametrize(("patients", "positive", "counts", "message"), [
    (3, 0.4, (5, 1), r"too few for 5 folds: \d+ labelled images of 3 patients, of them \d+ images of 2 patients"),
    (50, 0.05, (5, 1), r"too few for 5 folds: .* of 50 patients, of them .* of 3 patients"),
    (50, 0, (2, 1), "of them 0 images of 0 patients"), (50, 1.0, (2, 1), "too few for 2 folds"),
    (40, 0.2, (4, 4), "too few for 4 folds of 4 subfolds each: 40 labelled images of 40 patients, of them 8"),
])  # fmt: skip
def test_too_few(patients, positive, counts, message):
    table = manifest(patients, positive=positive, most=1)
    with pytest.raises(DataError, match=message):
        folds.assign_folds(table, *counts, 1)


def chests(count: int, seed: int = 0) -> list[np.ndarray]:
    """Different smooth pictures of the same broad shape, as chests are."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    broad = 90 * np.exp(-((np.abs(x) - 0.45) ** 2) * 9 - y**2 * 2)
    fine = [cv2.resize(random.normal(0, 12, (12, 12)), (96, 96), interpolation=cv2.INTER_CUBIC) for _ in range(count)]
    return [np.clip(180 - broad + part, 0, 255).astype(np.uint8) for part in fine]


def again(picture: np.ndarray) -> np.ndarray:
    """The same exposure in another gamma and JPEG quality."""
    brighter = (255 * (picture / 255) ** 0.9).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", brighter, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)


def test_copies_form_groups_and_others_do_not():
    pictures = chests(40)
    found = near_duplicates.group_canvases(
        [*pictures, again(pictures[3]), again(again(pictures[3])), again(pictures[7])]
    )
    assert found[40] == found[41] == found[3]
    assert found[42] == found[7]
    assert len(set(found)) == 40


def test_without_patients_near_duplicates_stay_together():
    table = manifest(60, most=1, known=False)
    pictures = dict(zip(table["image_id"], chests(len(table)), strict=True))
    copies = table.iloc[::3].assign(image_id=lambda part: part["image_id"] + "c", path=lambda part: part["path"] + "c")
    pictures |= {name: again(pictures[name[:-1]]) for name in copies["image_id"]}
    table = pd.concat([table, copies], ignore_index=True)
    found = joined(table, 3, 2, 1, canvases=lambda ids: [pictures[name] for name in ids])
    together = found.groupby(found["image_id"].str.rstrip("c"))[["fold", "subfold"]].nunique()
    assert together.max().tolist() == [1, 1]


@pytest.mark.parametrize("known", [0.0, 0.3, 0.7, 1.0])
def test_copies_stay_together_whosever_they_are(known, capsys):
    """200 pairs of one picture under two names; patients.csv tells the patient of some images, of a pair's two."""
    random = np.random.default_rng(3)
    table = manifest(400, most=1)
    table["patient"] = table["patient"].where(random.random(400) < known, None)
    pictures = chests(200, seed=1)
    of_image = dict(zip(table["image_id"], [*pictures, *map(again, pictures)], strict=True))
    found = joined(table, 5, 2, 1, canvases=lambda ids: [of_image[name] for name in ids])
    pair = found["image_id"].str.split(".").str[0].astype(int) % 200
    assert found.groupby(pair)[["fold", "subfold"]].nunique().max().tolist() == [1, 1]
    twice = table["patient"].notna()
    united = 2 * int((twice[:200].to_numpy() & twice[200:].to_numpy()).sum())
    printed = capsys.readouterr().out
    assert "200 images look like another one" in printed
    assert (f"; {united} patients share pictures" in printed) == bool(united)


def test_patients_and_copies_link_in_chains():
    patient, picture = np.array([0, 0, 1, 1, 2, 3, 4]), np.array([9, 8, 8, 7, 7, 6, 5])
    assert pd.factorize(folds.link_groups(patient, picture))[0].tolist() == [0, 0, 0, 0, 0, 1, 2]


def test_where_all_look_alike_patients_alone_are_kept_together(capsys):
    """Pictures that a machine made, say: keeping them together would leave one fold."""
    table, alike = manifest(60), chests(1)
    found = joined(table, 3, 1, 1, canvases=lambda ids: alike * len(ids))
    assert found.groupby("patient")["fold"].nunique().max() == 1
    assert "warning: too many images look alike" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"too few for 3 folds: .* of 1 patients"):
        folds.assign_folds(table.assign(patient=None), 3, 1, 1, canvases=lambda ids: alike * len(ids))


def test_patients_whose_copies_are_not_there_are_not_drawn_in():
    table = manifest(60)
    table.loc[table.index % 7 == 0, "patient"] = None
    pictures = dict(zip(table["image_id"], chests(len(table)), strict=True))
    found = joined(table, 3, 1, 1, canvases=lambda ids: [pictures[name] for name in ids])
    without = folds.assign_folds(table, 3, 1, 1)
    assert found.set_index("image_id")["fold"].to_dict() == without.set_index("image_id")["fold"].to_dict()
    assert found.groupby("patient")["fold"].nunique().max() == 1


@pytest.mark.parametrize("held_out", range(5))
def test_a_tenth_of_the_training_patients_validates_and_nobody_where_nothing_is_chosen(tmp_path, held_out):
    found = joined(manifest(300, positive=0.4), 5, 4, 1)
    assert found.groupby("patient")["val"].nunique().max() == 1
    tables.write_table(found, tmp_path / "folds.csv", tables.FOLDS)
    prepared = Prepared(tmp_path, tmp_path / "folds.csv")
    train, val, held = map(set, prepared.split_fold(held_out, validates=True))
    assert len(val) == pytest.approx(0.1 * len(train | val), rel=0.25)
    label = found.set_index("image_id")["label"]
    assert label[list(val)].mean() == pytest.approx(label.mean(), rel=0.25)
    everyone, nobody, same = prepared.split_fold(held_out, validates=False)
    assert (set(everyone), nobody, set(same)) == (train | val, [], held)
    assert train.isdisjoint(val | held)
    assert set(found["image_id"]) == train | val | held


def test_a_dozen_patients_validate_with_both_classes():
    found = joined(manifest(12, positive=0.5), 2, 2, 1)
    both = found.groupby(["fold", "val"])["label"].nunique()
    assert (both == 2).all()
    assert len(both) == 4
