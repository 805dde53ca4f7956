"""The smallest Keras member and its data, and what runs the checks: TensorFlow and PyTorch cannot share a process.

CXR_CHECK_DATA names a prepared dataset: {"data": ..., "recipe": ..., "prepared_size": ...}.
"""

import json
import os
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.imaging.geometry import Box
from cxr.paths import Paths
from stage1_classify import config
from stage1_classify.data import ClassifierData
from stage1_classify.keras_members import backend, device

# Before TensorFlow starts: two devices, for MirroredStrategy.
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


def member(**settings) -> config.ClassifierConfig:
    """The smallest: two blocks of VGG16, at 32 pixels, in float32."""
    training = {"epochs": 2, "batch": 4, "lr": 0.01, "workers": 0, "amp": False} | settings.pop("training", {})
    head = settings.pop("head", {"kind": "tap", "stride": 2, "width": 4, "dropout": (0.2, 0.2, 0.2)})
    given = {"framework": "keras", "backbone": "VGG16", "view": {"size": 32, "crop": "full"}, "augment": {"hflip": 0.5}}
    given |= {"weights": "random"}
    return config.ClassifierConfig.model_validate(given | {"head": head, "training": training} | settings)


def paths() -> Paths:
    given = json.loads(os.environ["CXR_CHECK_DATA"])
    return Paths(Path(given["data"]), given["recipe"], given["prepared_size"])


def data_of(one: config.ClassifierConfig, count: int = 12) -> ClassifierData:
    prepared = Prepared(paths().prepared_folder, paths().folds_csv)
    ids = prepared.folds["image_id"].tolist()
    return ClassifierData(prepared, dict.fromkeys(ids, Box(4, 8, 60, 56)), one, ids[:count], 1)


def folder() -> Path:
    return Path(tempfile.mkdtemp(dir=os.environ["CXR_HOME"]))


def fit(one: config.ClassifierConfig, to: Path | None = None, watched: int = 4) -> dict:
    data = data_of(one)
    ids = data.prepared.folds["image_id"].tolist()[12 : 12 + watched]
    return backend.fit(data, ids, to or folder(), "id", "a test", 0)


def stored(where: Path) -> list[np.ndarray]:
    return keras.saving.load_model(where / "weights.keras", safe_mode=True).get_weights()


def refused(part: str, function, *arguments) -> None:
    with pytest.raises(UsageError, match=re.escape(part)):
        function(*arguments)


def images(count: int = 2, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, side, side, 1)).astype(np.uint8)


def main(checks: dict) -> None:
    """Run the checks that the command line names; write {check: null, or its traceback} to its first word, as JSON."""
    device.configure_tensorflow()
    results = {}
    for name in sys.argv[2:]:
        began = time.monotonic()
        try:
            checks[name]()
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc(limit=-8)
        print(f"{time.monotonic() - began:5.1f} s {name}{' FAILED' if results[name] else ''}", flush=True)
    Path(sys.argv[1]).write_text(json.dumps(results))
