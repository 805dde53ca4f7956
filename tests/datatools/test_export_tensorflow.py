"""TFRecords and class folders read back by TensorFlow and Keras, in a process of their own."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cxr.datasets.prepared import Prepared
from cxr.imaging import rle
from cxr.paths import ROOT
from tests.datatools import test_export

recipe, exported = test_export.recipe, test_export.exported

READ_TENSORFLOW = """
import json, sys
from pathlib import Path
import keras
import numpy as np
import tensorflow as tf
from cxr.errors import DataError, UsageError
from datatools.export.__main__ import main
from cxr.tfkit import records

classes, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv[1:] = ["--to", "tfrecord", "--out", str(out)]
main()
arrays, facts, raw = {}, {}, {}
for path in sorted(out.glob("*.tfrec")):
    found = records.open_records([path])
    assert found.element_spec["image"] == tf.TensorSpec((64, 64, 1), tf.uint8)
    assert found.element_spec["label"] == tf.TensorSpec((), tf.float32)
    for record in found.as_numpy_iterator():
        name = record["image_id"].decode()
        arrays[name] = record["image"][..., 0]
        facts[name] = path.name, str(record["label"]), record["rle"].decode()
    first = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(str(path)))).numpy()).features.feature
    raw[path.name] = {key: value.WhichOneof("kind") for key, value in first.items()}

jpeg = tf.io.encode_jpeg(tf.fill([64, 64, 1], np.uint8(77))).numpy()
records.write_records(out / "published.tfrec", [records.Example("theirs", jpeg, "-1", 0)])
(theirs,) = records.open_records([out / "published.tfrec"]).as_numpy_iterator()
assert theirs["image"].shape == (64, 64, 1) and (theirs["image"] == 77).all() and theirs["label"] == 0

small = tf.io.encode_png(tf.zeros([32, 32, 1], tf.uint8)).numpy()
records.write_records(out / "mixed.tfrec", [records.Example("a", jpeg, "-1", 0), records.Example("b", small, "-1", 0)])
(out / "text.tfrec").write_text("no record, but text that is longer than a header")
(out / "empty.tfrec").touch()
errors = []
for name in ("mixed", "text", "empty", "absent"):
    try:
        list(records.open_records([out / f"{name}.tfrec"]))
    except (DataError, UsageError, tf.errors.InvalidArgumentError) as error:
        errors.append(f"{type(error).__name__} {error}")

images = keras.utils.image_dataset_from_directory(classes, color_mode="grayscale", image_size=(64, 64), shuffle=False)
labels = np.concatenate([label for _, label in images.as_numpy_iterator()]).tolist()
keras_found = {"classes": images.class_names, "files": images.file_paths, "labels": labels}
np.savez(out / "images.npz", **arrays)
(out / "found.json").write_text(json.dumps({"facts": facts, "raw": raw, "errors": errors, "keras": keras_found}))
"""


@pytest.fixture
def tensorflow(exported, prepared_paths, recipe, tmp_path):
    """What TensorFlow and Keras read."""
    classes, out = exported("jpeg-classes"), tmp_path / "some records"
    shutil.copytree(prepared_paths.folds_csv.parent, prepared_paths.artifacts_folder / "small" / "folds")
    command = [sys.executable, "-c", READ_TENSORFLOW, str(classes / "train"), str(out)]
    here = os.environ | {"DATA": str(prepared_paths.data_folder), "RECIPE": str(tmp_path / "small.yaml")}
    done = subprocess.run(command, env=here, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "found.json").read_text()) | {"images": np.load(out / "images.npz")}


def test_tfrecords(tensorflow, prepared_paths):
    prepared = Prepared(prepared_paths.prepared_folder, prepared_paths.folds_csv)
    for name in prepared.manifest.index:
        np.testing.assert_array_equal(tensorflow["images"][name], prepared.read_image(name))
    assert set(tensorflow["facts"]) == set(prepared.manifest.index)
    for name in prepared.list_ids("train"):
        file, label, code = tensorflow["facts"][name]
        assert file == f"train-{prepared.folds.at[name, 'fold']}-8.tfrec"
        assert float(label) == prepared.manifest.at[name, "label"]
        np.testing.assert_array_equal(rle.decode_mask(code, 64, 64), prepared.read_mask(name))
    assert tensorflow["facts"]["ID_000000000"] == ["test-3.tfrec", "nan", ""]
    assert tensorflow["facts"]["1.9.0"] == ["unlabelled-1.tfrec", "nan", ""]
    kinds = {"img_id": "bytes_list", "image": "bytes_list", "rle": "bytes_list", "label": "int64_list"}
    assert tensorflow["raw"]["train-0-8.tfrec"] == kinds
    assert set(tensorflow["raw"]["test-3.tfrec"]) == {"img_id", "image"}
    check_errors(tensorflow["errors"])
    check_class_folders(tensorflow["keras"], prepared)


def check_errors(errors):
    mixed, text, empty, absent = errors
    assert mixed.startswith("InvalidArgumentError")
    assert re.match(r"DataError .*text\.tfrec holds no record of a radiograph", text)
    assert empty.startswith("DataError no record in empty.tfrec")
    assert re.match(r"UsageError .*absent\.tfrec is missing; .* python -m datatools\.export --to tfrecord", absent)


def check_class_folders(found, prepared):
    assert found["classes"] == ["no_pneumothorax", "pneumothorax"]
    ids = [os.path.basename(path).removesuffix(".jpg") for path in found["files"]]
    assert dict(zip(ids, found["labels"], strict=True)) == prepared.manifest.loc[ids, "label"].to_dict()
    assert set(ids) == set(prepared.folds.index[prepared.folds["fold"] != 0])
