"""A small made-up dataset with what prepare and stages 1 and 2 would have left for stage 3."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.datasets import sample_submission
from cxr.imaging import rle
from cxr.imaging.geometry import Letterbox, resize_image
from cxr.paths import Paths
from cxr.recipe import Recipe
from stage3_stack.config import Config, DenseConfig, GridConfig, LightgbmConfig, UnitConfig
from stage3_stack.config.stage import Stage

SIZE = 64
SIZES = ((96, 96), (80, 100), (120, 90))


@dataclass
class World:
    """Where it lies, and what is true in it."""

    paths: Paths
    recipe: Recipe
    truth: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """Mask in the original's pixels by image_id"""
    recipe_file: Path | None = None

    def write_predictions(self, member: str, fold: int, table: pd.DataFrame) -> None:
        tables.write_table(table, self.paths.fold_folder(1, member, fold) / "predictions.parquet", tables.PREDICTIONS)


def small_config(**changes) -> Config:
    """Settings with which a stack takes a second."""
    values = {
        "dense": DenseConfig(steps=40, components=6),
        "lightgbm": LightgbmConfig(trees=5, leaves=3),
        "grid": GridConfig(
            top_score_thresholds=[0.4, 0.6, 0.8],
            min_areas=[0, 2000, 8000],
            bottom_score_thresholds=[0.2, 0.4, 0.6],
            probability_thresholds=[0, 0.2, 0.4, 0.6],
        ),
    }
    return Config(**values | changes)


def make_world(
    home: Path, train: int = 120, test: int = 30, folds: int = 2, subfolds: int = 4,
    train_folds: list[int] | None = None, patients: bool = True, positive_share: float = 0.4,
) -> World:  # fmt: skip
    """Write it all below `home` (which CXR_HOME must name)."""
    draw = np.random.default_rng(0)
    recipe = Recipe(
        name="toy", about="toy", prepared_size=SIZE, folds=folds, subfolds=subfolds, train_folds=train_folds,
        stage0="none", stage1=["a", "b"], stage2=["u", "v"], stage3="small",
    )  # fmt: skip
    data = home / "some data"
    data.mkdir(parents=True)
    world = World(recipe.build_paths(data), recipe)
    world.recipe_file = home / "toy.yaml"
    values = recipe.model_dump(exclude={"name"})
    world.recipe_file.write_text("".join(f"{k}: {'null' if v is None else v}\n" for k, v in values.items()))
    manifest = _manifest(world, draw, train, test, patients, positive_share)
    _folds(world, manifest, folds, subfolds)
    _stage1(world, manifest, draw)
    _stage2(world, manifest, draw)
    _tables(world, manifest)
    return world


def _manifest(world: World, draw, train: int, test: int, patients: bool, positive_share: float) -> pd.DataFrame:
    names = [f"im{k:03d}" for k in range(train)] + ["un1", "un2"] + [f"ID_{k:03d}" for k in range(test)]
    rows = []
    for k, name in enumerate(names):
        height, width = SIZES[k % 3]
        split = "train" if name.startswith("im") else "test" if name.startswith("ID") else "unlabelled"
        mask = np.zeros((height, width), bool)
        if k // 2 % 10 < 10 * positive_share:  # by patient: two images each
            radius = draw.integers(4, 16)
            centre = (int(draw.integers(20, width - 20)), int(draw.integers(20, height - 20)))
            mask = cv2.circle(mask.astype(np.uint8), centre, int(radius), 1, -1) > 0
        world.truth[name] = mask
        known = split == "train"
        rows.append({
            "image_id": name, "split": split, "path": f"{name}.dcm", "patient": f"p{k // 2}" if patients else None,
            "age": float(draw.integers(20, 80)), "sex": "FM"[k % 2], "view": "PA" if k % 3 else None,
            "height": height, "width": width, "label": float(mask.any()) if known else None,
            "mask_area": int(mask.sum()) if known else 0, "rle": rle.encode_mask(mask) if known else None,
        })  # fmt: skip
    manifest = pd.DataFrame(rows)
    tables.write_table(manifest, world.paths.prepared_folder / "manifest.parquet", tables.MANIFEST)
    _canvases(world, manifest)
    return manifest


def _canvases(world: World, manifest: pd.DataFrame) -> None:
    masks, rows = [], []
    for k, row in enumerate(manifest.itertuples()):
        box = Letterbox(row.height, row.width, SIZE)
        mask_row = -1
        if row.split == "train" and row.mask_area:
            mask_row = len(masks)
            masks.append(
                np.packbits(box.image_to_canvas(world.truth[row.image_id].astype(np.uint8) * 255) >= 128, axis=-1)
            )
        dx, dy = box.content_offset
        rows.append({"image_id": row.image_id, "row": k, "scale": box.scale, "dx": dx, "dy": dy, "mask_row": mask_row})
    folder = world.paths.prepared_folder
    noise = np.random.default_rng(1).integers(0, 256, (len(manifest), SIZE, SIZE), np.uint8)
    np.save(folder / "pixels.npy", noise)  # no two alike: no near-duplicates
    np.save(folder / "masks.npy", np.array(masks))
    tables.write_table(pd.DataFrame(rows), folder / "index.parquet", tables.INDEX)


def _folds(world: World, manifest: pd.DataFrame, folds: int, subfolds: int) -> None:
    labelled = manifest[manifest["split"] == "train"]
    patient = pd.Series(np.arange(len(labelled)) // 2, index=labelled.index)
    place = patient.groupby(labelled["label"]).rank(method="dense").astype(int) - 1  # stratified, as prepare does it
    table = pd.DataFrame({
        "image_id": labelled["image_id"], "fold": place % folds, "subfold": place // folds % subfolds,
        "val": False,
    })  # fmt: skip
    tables.write_table(table, world.paths.folds_csv, tables.FOLDS)


def predicted(world: World, manifest: pd.DataFrame, fold: int) -> pd.DataFrame:
    """The images that a fold's models predict."""
    folds = pd.read_csv(world.paths.folds_csv)
    mine = set(folds.loc[folds["fold"] == fold, "image_id"])
    return manifest[manifest["image_id"].isin(mine) | (manifest["split"] != "train")]


def _stage1(world: World, manifest: pd.DataFrame, draw) -> None:
    for member, width in (("a", 12), ("b", 7)):
        for fold in world.recipe.folds_to_train:
            rows = predicted(world, manifest, fold).sample(frac=1, random_state=fold)
            label = np.array([world.truth[name].any() for name in rows["image_id"]])
            features = draw.normal(size=(len(rows), width)) + label[:, None] * (np.arange(width) < 3)
            prob = 1 / (1 + np.exp(-(1.5 * label + draw.normal(size=len(rows)) - 1)))
            world.write_predictions(member, fold, rows.assign(prob=prob))
            order = draw.permutation(len(rows))  # features in another order than predictions
            np.savez(
                world.paths.fold_folder(1, member, fold) / "features.npz",
                image_id=rows["image_id"].to_numpy(str)[order], features=features[order].astype(np.float32),
            )  # fmt: skip


def _stage2(world: World, manifest: pd.DataFrame, draw) -> None:
    tests = manifest[manifest["split"] == "test"]
    for member, size in (("u", SIZE), ("v", SIZE // 2)):
        for fold in world.recipe.folds_to_train:
            rows = predicted(world, manifest, fold)
            rows = rows[rows["split"] == "train"].sample(frac=1, random_state=fold)
            write_maps(world, world.paths.fold_folder(2, member, fold), rows, size, draw, head=member == "v")
        write_maps(world, world.paths.run_folder / "stage2" / member / "test", tests, size, draw, head=member == "v")


def write_maps(world: World, folder: Path, rows: pd.DataFrame, size: int, draw, head: bool = False) -> None:
    """Maps that show the truth, too weak or too strong, and something now and then where nothing is.

    With a head also a probability, which tells more than half the truth.
    """
    maps = []
    for row in rows.itertuples():
        box = Letterbox(row.height, row.width, SIZE)
        canvas = box.image_to_canvas(world.truth[row.image_id].astype(np.uint8) * 255).astype(np.float32)
        canvas = cv2.GaussianBlur(canvas, (5, 5), 0) * draw.uniform(0.5, 1)
        if draw.random() < 0.2:
            canvas[10:20, 10:20] = 180
        maps.append(
            np.clip(resize_image(canvas + draw.uniform(0, 30, canvas.shape), size, size), 0, 255).astype(np.uint8)
        )
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "maps.npy", np.array(maps))
    label = np.array([world.truth[name].any() for name in rows["image_id"]], float)
    noise = np.random.default_rng(len(rows)).normal(0, 0.15, len(rows))
    prob = np.clip(0.3 + 0.4 * label + noise, 0, 1) if head else np.nan
    index = pd.DataFrame({"image_id": rows["image_id"], "row": np.arange(len(rows)), "prob": prob})
    tables.write_table(index.sample(frac=1, random_state=1), folder / "index.parquet", tables.MAP_INDEX)


def _tables(world: World, manifest: pd.DataFrame) -> None:
    tests = manifest.loc[manifest["split"] == "test", "image_id"].tolist()
    order = [*tests[::-1], "ID_gone"]
    lines = "".join(f"{name}, -1\n" for name in [*order, order[0]])
    (world.paths.data_folder / "sample_submission.csv").write_text("ImageId, EncodedPixels\n" + lines)
    sample_submission.write_sample_submission(
        sample_submission.read_sample_submission(world.paths.data_folder / "sample_submission.csv"),
        world.paths.prepared_folder / "sample.json",
    )
    truth = "".join(f"{name},{code}\n" for name in tests for code in _regions(world.truth[name]))
    (world.paths.data_folder / "test-truth.csv").write_text("ImageId,EncodedPixels\n" + truth)


def _regions(mask: np.ndarray) -> list[str]:
    """A mask as one row or, where it can be cut, as its left and its right half."""
    left, right = mask.copy(), mask.copy()
    middle = int(np.median(np.flatnonzero(mask.any(axis=0)))) if mask.any() else 0
    left[:, middle:], right[:, :middle] = False, False
    return [rle.encode_mask(half) for half in (left, right) if half.any()] or [rle.EMPTY]


def unit_config(world: World, **changes) -> UnitConfig:
    recipe = world.recipe
    values = {
        "settings": small_config(), "members": recipe.stage1, "segmenters": recipe.stage2,
        "folds": recipe.folds, "trained": recipe.folds_to_train, "seed": recipe.seed,
    }  # fmt: skip
    return UnitConfig(**values | changes)


def open_stage(world: World, **changes) -> Stage:
    """Stage 3 of a world; changes: of its unit's settings."""
    return Stage(world.paths, unit_config(world, **changes))


def read_submission(world: World) -> pd.DataFrame:
    return pd.read_csv(world.paths.submission_csv, dtype=str, skipinitialspace=True).set_index("ImageId")


def read_stacked(world: World) -> pd.DataFrame:
    return tables.read_table(world.paths.stage3_folder / "stacked.parquet", tables.STACKED, "").set_index("image_id")


QUICK = ("--dense.steps", "40", "--lightgbm.trees", "5")


def command(world: World, main, patch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run a command of stage 3 on a world."""
    patch.setenv("RECIPE", str(world.recipe_file))
    patch.setenv("DATA", str(world.paths.data_folder))
    patch.setattr(sys, "argv", ["command", *arguments])
    main()
