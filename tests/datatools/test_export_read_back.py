"""Each layout read back by the library that its users would use: what comes out is what prepare wrote."""

import json
import os
import subprocess
from collections import Counter
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder

from cxr import tables
from cxr.datasets import box_files
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from cxr.paths import Paths
from datatools.export import hdf5
from datatools.export.__main__ import ExportConfig, export_prepared_data
from datatools.export.coco import annotate_regions
from prepare.steps import PrepareConfig, prepare_data
from tests.datatools import test_export

recipe, exported = test_export.recipe, test_export.exported
TESTS = {f"ID_{number:09d}" for number in range(3)}
NEEDS_NNUNET = "nnU-Net v2 is not installable beside timm 1.0.31: CXR_NNUNET names a Python that has it"


@pytest.fixture
def prepared(prepared_paths):
    return Prepared(prepared_paths.prepared_folder, prepared_paths.folds_csv)


@pytest.fixture
def train(prepared):
    return prepared.list_ids("train")


def png(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def stems(folder):
    return {path.stem for path in folder.iterdir()}


# --- jpeg-classes ------------------------------------------------------------------------------


def test_jpeg_classes(exported, prepared):
    out = exported("jpeg-classes")
    for part, in_part in (("train", prepared.folds["fold"] != 0), ("valid", prepared.folds["fold"] == 0)):
        found = ImageFolder(out / part)
        assert found.classes == ["no_pneumothorax", "pneumothorax"]
        labels = {os.path.basename(path).removesuffix(".jpg"): label for path, label in found.samples}
        assert labels == prepared.manifest.loc[prepared.folds.index[in_part], "label"].to_dict()
    assert stems(out / "test") == TESTS
    assert stems(out / "unlabelled") == {"1.9.0"}


def test_jpeg_loses_little(exported):
    lossy, whole = exported("jpeg-classes", size=48), exported("png-masks", "whole", size=48)
    exact = {path.stem: png(path).astype(int) for place in ("images", "test") for path in (whole / place).iterdir()}
    found = {path.stem: png(path) for path in lossy.rglob("*.jpg") if path.stem in exact}
    losses = np.abs([found[name] - exact[name] for name in exact])
    assert 0 < losses.max() <= 24
    assert losses.mean() < 2


# --- png-masks ---------------------------------------------------------------------------------


def test_png_masks(exported, prepared, train):
    out = exported("png-masks")
    assert stems(out / "images") == stems(out / "masks") == set(train)
    for name in train:
        np.testing.assert_array_equal(png(out / "images" / f"{name}.png"), prepared.read_image(name))
        np.testing.assert_array_equal(png(out / "masks" / f"{name}.png"), prepared.read_mask(name) * 255)
    for split, ids in (("test", TESTS), ("unlabelled", {"1.9.0"})):
        assert stems(out / split) == ids
        assert all((png(out / split / f"{name}.png") == prepared.read_image(name)).all() for name in ids)
    table = pd.read_csv(out / "folds.csv", index_col="image_id")
    assert table["fold"].to_dict() == prepared.folds["fold"].to_dict()
    assert table["label"].to_dict() == prepared.manifest.loc[train, "label"].to_dict()


# --- h5 ----------------------------------------------------------------------------------------


def test_h5(exported, prepared, train, monkeypatch):
    assert hdf5.SHARD == 512
    monkeypatch.setattr(hdf5, "SHARD", 6)
    out = exported("h5")
    with h5py.File(out / "images.h5") as images, h5py.File(out / "masks.h5") as masks:
        assert [len(images[f"images_{number}"]) for number in range(3)] == [6, 6, 4]
        assert {key for key in masks if key.startswith("ann")} == {"ann_0", "ann_1", "ann_2"}
        assert images["images_0"].shape == masks["ann_0"].shape == (6, 64, 64, 1)
        assert images["images_0"].dtype == masks["ann_0"].dtype == np.uint8
        for place, name in enumerate(train):
            shard, row = divmod(place, 6)
            assert images[f"ids_{shard}"].asstr()[row] == masks[f"ids_{shard}"].asstr()[row] == name
            np.testing.assert_array_equal(images[f"images_{shard}"][row, ..., 0], prepared.read_image(name))
            np.testing.assert_array_equal(masks[f"ann_{shard}"][row, ..., 0], prepared.read_mask(name))
            assert images[f"labels_{shard}"][row] == prepared.manifest.at[name, "label"]
            assert images[f"folds_{shard}"][row] == prepared.folds.at[name, "fold"]
    with h5py.File(out / "test_images.h5") as images:
        assert set(images["ids_0"].asstr()) == TESTS
        assert (images["images_0"][1, ..., 0] == prepared.read_image(images["ids_0"].asstr()[1])).all()


def test_h5_needs_room(exported, monkeypatch):
    monkeypatch.setattr(hdf5.shutil, "disk_usage", lambda folder: SimpleNamespace(free=20 * 64 * 64))
    with pytest.raises(UsageError, match="0 MB are free for --out, 0 MB are needed"):
        exported("h5")


# --- coco --------------------------------------------------------------------------------------


def test_coco(exported, prepared, train):
    out = exported("coco", size=32)
    found, whole = COCO(out / "annotations.json"), exported("png-masks", "whole", size=32)
    assert {info["file_name"] for info in found.imgs.values()} == {f"{name}.png" for name in train}
    for number, info in found.imgs.items():
        name = info["file_name"].removesuffix(".png")
        assert info["fold"] == prepared.folds.at[name, "fold"]
        assert (png(out / "images" / info["file_name"]) == png(whole / "images" / info["file_name"])).all()
        masks = [found.annToMask(a) for a in found.loadAnns(found.getAnnIds(number, catIds=[1]))]
        np.testing.assert_array_equal(sum(masks, np.zeros((32, 32))) * 255, png(whole / "masks" / info["file_name"]))
        (chest,) = found.loadAnns(found.getAnnIds(number, catIds=[2]))
        assert chest["bbox"] == [2, 4, 28, 24]  # half of the box (4, 8, 60, 56)
        assert found.annToMask(chest).sum() == chest["area"] == 28 * 24
    for split, ids in (("test", TESTS), ("unlabelled", {"1.9.0"})):
        info = COCO(out / f"image_info_{split}.json")
        assert {image["file_name"] for image in info.imgs.values()} == {f"{name}.png" for name in ids}
        assert not info.getAnnIds(catIds=[1])
        assert not set(info.imgs) & set(found.imgs)


def test_coco_boxes_come_back_as_they_went_out(recipe, kaggle_folder, dicom, tmp_path):
    """Originals of three shapes, boxes with fractions, another size than prepared; and of its copy without our key."""
    data = kaggle_folder()
    names = [f"1.2.{number}" for number in range(16)]
    for number, path in enumerate(sorted(data.glob("dicom-images-train/*/*/*.dcm"))):
        shape = [(90, 61), (64, 100), (77, 77)][number % 3]
        dicom.save(dicom.dataset(np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8)), path)
    (data / "train-rle.csv").write_text("ImageId,EncodedPixels\n" + "".join(f"{n},{'5 9' * (k % 2) or -1}\n"
                                                                            for k, n in enumerate(names)))  # fmt: skip
    paths = Paths(data, recipe.name, 64)
    prepare_data(paths, PrepareConfig(size=64, folds=2, subfolds=2, seed=1), workers=1)
    manifest = Prepared(paths.prepared_folder, paths.folds_csv).manifest
    sizes = {name: (row["width"], row["height"]) for name, row in manifest.iterrows()}
    boxes = {name: (w * 0.11, h * 0.07, w * 0.93, h * 0.89) for name, (w, h) in sizes.items()}
    table = pd.DataFrame([(f"{name}.png", *box, 1.0, "model") for name, box in boxes.items()],
                         columns=["Filename", "xmin", "ymin", "xmax", "ymax", "score", "source"])  # fmt: skip
    tables.write_table(table, paths.boxes_csv, tables.BOXES)
    export_prepared_data(recipe, paths, ExportConfig(to="coco", size=96), tmp_path / "out")
    path = tmp_path / "out" / "annotations.json"
    found = box_files.read_chest_boxes(path, sizes, skipped := Counter())
    assert set(found) == set(names)
    np.testing.assert_allclose([found[name] for name in names], [boxes[name] for name in names], atol=1e-6)
    assert set(skipped) == {"of annotations.json of category 'pneumothorax', which is no chest,"}
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["letterbox"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"annotations\.json, annotation \d+: the image has 96 x 96 pixels there"):
        box_files.read_chest_boxes(path, sizes, Counter())


def test_a_coco_region_each():
    mask = np.zeros((8, 6), np.uint8)
    mask[1:4, 2:4], mask[4, 4], mask[7, 5] = 1, 1, 1  # the first two touch by a corner
    left, right = annotate_regions(mask)
    assert (left["bbox"], left["area"], right["bbox"], right["area"]) == ([2, 1, 3, 4], 7, [5, 7, 1, 1], 1)
    assert left["segmentation"] == {"size": [8, 6], "counts": [17, 3, 5, 3, 8, 1, 11]}
    assert right["segmentation"]["counts"] == [47, 1]


def test_coco_without_boxes(exported, prepared_paths):
    prepared_paths.boxes_csv.unlink()
    assert [category["name"] for category in COCO(exported("coco") / "annotations.json").cats.values()] == [
        "pneumothorax"
    ]


# --- nnunet ------------------------------------------------------------------------------------


def test_nnunet(exported, prepared, train):
    """What nnU-Net's documentation/dataset_format.md asks for."""
    root = exported("nnunet") / "Dataset501_Pneumothorax"
    described = json.loads((root / "dataset.json").read_text())
    assert described == {
        "name": "Pneumothorax", "channel_names": {"0": "X-ray"}, "labels": {"background": 0, "pneumothorax": 1},
        "numTraining": 16, "file_ending": ".png", "overwrite_image_reader_writer": "NaturalImage2DIO",
    }  # fmt: skip
    assert stems(root / "imagesTr") == {f"{name}_0000" for name in train}
    assert stems(root / "labelsTr") == set(train)
    assert stems(root / "imagesTs") == {f"{name}_0000" for name in TESTS}
    for name in train:
        np.testing.assert_array_equal(png(root / "imagesTr" / f"{name}_0000.png"), prepared.read_image(name))
        np.testing.assert_array_equal(png(root / "labelsTr" / f"{name}.png"), prepared.read_mask(name))
    folds = prepared.folds["fold"]
    for fold, split in enumerate(json.loads((root / "splits_final.json").read_text())):
        assert set(split["val"]) == set(folds.index[folds == fold])
        assert sorted(split["train"] + split["val"]) == sorted(train)


READ_NNUNET = """
import sys
import numpy as np
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

if __name__ == "__main__":
    root, case, expected = sys.argv[1:]
    verify_dataset_integrity(root, 2)
    image, _ = NaturalImage2DIO().read_images([f"{root}/imagesTr/{case}_0000.png"])
    label, _ = NaturalImage2DIO().read_seg(f"{root}/labelsTr/{case}.png")
    np.testing.assert_array_equal(np.stack([image[0, 0], label[0, 0]]), np.load(expected))
"""


@pytest.mark.skipif("CXR_NNUNET" not in os.environ, reason=NEEDS_NNUNET)
def test_nnunet_says_it_is_sound(exported, prepared, tmp_path):
    root = exported("nnunet") / "Dataset501_Pneumothorax"
    np.save(tmp_path / "expected.npy", np.stack([prepared.read_image("1.2.0"), prepared.read_mask("1.2.0")]))
    (tmp_path / "check.py").write_text(READ_NNUNET)  # a file: it starts processes that import it
    command = [os.environ["CXR_NNUNET"], str(tmp_path / "check.py"), str(root), "1.2.0", str(tmp_path / "expected.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "most likely OK" in done.stdout


# --- monai -------------------------------------------------------------------------------------


def test_monai(exported, prepared, train):
    from monai.data import load_decathlon_datalist
    from monai.transforms import LoadImaged

    out, load = exported("monai"), LoadImaged(keys=["image", "label"], image_only=True)
    whole = load_decathlon_datalist(out / "datalist.json", True, "training")
    assert {os.path.basename(item["image"]): (item["class"], item["fold"]) for item in whole} == {
        f"{name}.png": (prepared.manifest.at[name, "label"], prepared.folds.at[name, "fold"]) for name in train
    }
    for fold in range(2):
        held_out = load_decathlon_datalist(out / f"fold{fold}.json", True, "validation")
        names = {os.path.basename(item["image"]).removesuffix(".png") for item in held_out}
        assert names == set(prepared.folds.index[prepared.folds["fold"] == fold])
        assert len(load_decathlon_datalist(out / f"fold{fold}.json", True, "training")) == 16 - len(names)
    for item in whole:
        name, read = os.path.basename(item["image"]).removesuffix(".png"), load(item)
        np.testing.assert_array_equal(read["image"].numpy().T, prepared.read_image(name))  # MONAI has x before y
        np.testing.assert_array_equal(read["label"].numpy().T, prepared.read_mask(name))
    tests = load_decathlon_datalist(out / "fold0.json", True, "test")
    assert {os.path.basename(item["image"]) for item in tests} == {f"{name}.png" for name in TESTS}
