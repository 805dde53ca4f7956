"""Keras networks, their start weights, their answers, and the files that stage 3 reads.

Each function is a check that test_keras.py names; run by keras_cases.main in a process of its own.
"""

import os
from pathlib import Path

import h5py
import keras
import numpy as np

from cxr import tables
from cxr.recipe import Recipe
from stage1_classify import config
from stage1_classify import train as step
from stage1_classify.check import check_member
from stage1_classify.keras_members import backend, network, start_weights, train_step
from stage3_stack.config import build_stack_step, read_stack_settings
from stage3_stack.config.stage import Stage
from stage3_stack.stacking.fold_rows import read_fold_rows
from tests.stage1_classify.keras_cases import data_of, fit, folder, images, member, paths, refused, stored

RECIPE = Recipe(
    name="r", about="a test", prepared_size=64, folds=2, subfolds=2, stage0="smoke", stage1=["smoke"], stage2=[],
    stage3="smoke",
)  # fmt: skip


def backbones_and_heads_at_64_pixels() -> None:
    heads = {
        ("EfficientNetB0", "tap", 16): (8, 672),  # block6a expands 112 channels by 6, then strides
        ("EfficientNetB0", "pooled", 32): (1280, 1280),
        ("Xception", "tap", 16): (8, 1024),
        ("VGG16", "flat", 32): (8, 512),
    }
    for (name, kind, stride), (width, channels) in heads.items():
        head = {"kind": kind, "stride": stride, "width": 8, "dropout": (0, 0, 0)}
        model = network.build_network(member(backbone=name, head=head, view={"size": 64, "crop": "full"}))
        found = model(images(), training=False)
        assert found["features"].shape == (2, width), name
        assert found["logit"].shape == (2, 1)
        assert np.isfinite(found["logit"]).all()
        assert network.split_network(model)[0].output.shape[-1] == channels, name


def parameters_are_the_published_ones() -> None:
    assert backend.count_parameters(config.read_member("reyvaz_b2_1024")) == 7_769_971


def gray_stands_for_three_equal_colours() -> None:
    one = member(mean=0.25, std=0.5)
    backbone, _ = network.split_network(network.build_network(one))
    shown = keras.Model(backbone.input, backbone.get_layer("colours").output)
    assert np.allclose(shown(np.full((1, 4, 4, 1), 255, np.uint8)), 1.5)
    assert shown(images()).shape == (2, 64, 64, 3)


def a_stride_that_is_not_there_is_refused() -> None:
    refused("has no stride 7", network.build_network, member(head={"stride": 7}))


def features_and_the_last_layer_give_the_probability() -> None:
    to = folder()
    one = member(hflip_tta=True, tta_passes=2)
    fit(one, to)
    data = data_of(one)
    first, _ = backend.infer(data, data.image_ids, to)
    prob, features = backend.infer(data, data.image_ids, to)
    assert np.allclose(first, prob, atol=1e-5)  # as trained, and as read from its file
    assert (prob.dtype, features.dtype, features.shape) == (np.float32, np.float32, (12, 4))
    *_, kernel, bias = stored(to)
    assert np.allclose(1 / (1 + np.exp(-(features @ kernel[:, 0] + bias))), prob, atol=1e-5)


def mirrored_view_counts_as_much() -> None:
    one = member(hflip_tta=True)
    asked = []

    def answer(batch):
        asked.append(batch)
        return batch[:, 0, 0, 0].astype(np.float32), batch[:, 0, 0]

    data = data_of(one)
    _, features = backend._run_inference(data, data.image_ids[:3], answer)
    seen = np.stack([data.load_inference_image(image_id)["image"][0] for image_id in data.image_ids[:3]]).astype(float)
    assert np.allclose(features[:, 0], (seen[:, 0, 0] + seen[:, 0, -1]) / 2)
    assert len(asked) == 2


def answers_are_float32_where_training_is_not() -> None:
    head = {"kind": "tap", "stride": 4, "width": 8, "dropout": (0, 0, 0)}
    one = member(backbone="EfficientNetB0", head=head)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = network.build_network(one)
    keras.config.set_dtype_policy("float32")
    plain = network.build_network(one)
    plain.set_weights(model.get_weights())
    expected, reduced = plain(images(), training=False), model(images(), training=False)
    assert not np.allclose(reduced["features"], expected["features"], atol=1e-6)
    for few in (True, False):
        logit, features = train_step.build_batch_predictor(model, few)(images())
        assert np.allclose(features, expected["features"], rtol=0, atol=1e-6)
        assert np.allclose(logit, expected["logit"][:, 0], rtol=0, atol=1e-6)
    again = model(images(), training=False)
    assert np.array_equal(again["features"], reduced["features"])  # training goes on as before


def watching_asks_once_for_an_image() -> None:
    one, asked = member(hflip_tta=True, tta_passes=3, training={"epochs": 1}), []
    answers = backend.build_batch_predictor

    def counted(model, few):
        answer = answers(model, few)
        return lambda batch: asked.append(len(batch)) or answer(batch)

    backend.build_batch_predictor = counted
    try:
        to = folder()
        fit(one, to)
        assert asked == [4]
        data = data_of(one)
        backend.infer(data, data.image_ids[:5], to)
        assert sum(asked[1:]) == 5 * 3 * 2
    finally:
        backend.build_batch_predictor = answers


def loss_weighs_and_smooths() -> None:
    logit, label = np.array([0.3, -1.2, 2.0], np.float32), np.array([1, 0, 1], np.float32)
    found = train_step.compute_losses(member(positive_weight=2, label_smoothing=0.25), label, logit)
    target, prob = np.array([0.875, 0.125, 0.875]), 1 / (1 + np.exp(-logit))
    assert np.allclose(found, -2 * target * np.log(prob) - (1 - target) * np.log(1 - prob), atol=1e-6)


def local_weights_load_and_others_are_refused() -> None:
    os.environ["WEIGHTS"] = str(folder())
    where, donor = Path(os.environ["WEIGHTS"]), network.create_backbone("VGG16")
    part = keras.Model(donor.input, donor.get_layer("block2_conv2").output)
    part.save(where / "mine.keras")
    part.save_weights(where / "theirs.weights.h5")
    donor.save(where / "old.h5")
    (where / "broken.keras").write_bytes(b"PK half a file")
    for name in ("mine", "old"):
        model = start_weights.build_classifier(member(weights=name))
        found = {layer.name: layer.get_weights() for layer in network.iterate_layers(model)}
        for layer in ("block1_conv1", "block2_conv2"):
            assert all(np.array_equal(*p) for p in zip(found[layer], donor.get_layer(layer).get_weights(), strict=True))
    refused("do not fit the backbone Xception: 0%", backend.check_network, member(weights="mine", backbone="Xception"))
    refused("expected absent.keras or absent.h5", backend.check_network, member(weights="absent"))
    refused("cannot be read", backend.check_network, member(weights="broken"))
    refused("cannot be read", backend.check_network, member(weights="theirs.weights"))


def weights_that_run_code_are_refused() -> None:
    os.environ["WEIGHTS"] = str(folder())
    image = keras.Input((8, 8, 3))
    evil = keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image))
    evil.save(Path(os.environ["WEIGHTS"]) / "evil.keras")
    refused("cannot be read", backend.check_network, member(weights="evil"))


def weights_of_a_training_start_another() -> None:
    os.environ["WEIGHTS"] = str(folder())
    to = Path(os.environ["WEIGHTS"])
    fit(member(), to)
    (to / "weights.keras").rename(to / "own.keras")
    model = start_weights.build_classifier(member(weights="own"))
    saved = keras.saving.load_model(to / "own.keras", safe_mode=True).get_weights()
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), saved, strict=True))


def hub_is_asked_once_and_its_file_starts_every_network() -> None:
    os.environ["CXR_HOME"], home = str(folder()), os.environ["CXR_HOME"]
    fetch, asked = network.create_backbone, []
    donor = fetch("VGG16")

    def hub(name, weights=None):
        asked.append(weights) if weights else None
        return donor if weights else fetch(name)

    start_weights.create_backbone = hub
    one = member(weights="imagenet")
    for _ in range(2):
        check_member("a", one)
    file, model = config.get_start_weights(one).existing_file, start_weights.build_classifier(one)
    assert asked == ["imagenet"]
    assert file.name == "VGG16_imagenet.h5"
    found = {layer.name: layer.get_weights() for layer in network.iterate_layers(model)}
    for layer in ("block1_conv1", "block2_conv2"):
        assert all(np.array_equal(*p) for p in zip(found[layer], donor.get_layer(layer).get_weights(), strict=True))
    first = file.read_bytes()
    file.unlink()
    check_member("a", one)
    assert file.read_bytes() == first
    with h5py.File(file, "a") as stored:
        del stored["block1_conv1"].attrs["weight_names"]
        stored["block1_conv1"].attrs["weight_names"] = []
    refused("'imagenet' (VGG16_imagenet.h5) do not fit", check_member, "a", one)
    start_weights.create_backbone, os.environ["CXR_HOME"] = fetch, home


def no_hub_is_refused_and_leaves_nothing() -> None:
    os.environ["CXR_HOME"], home = str(folder()), os.environ["CXR_HOME"]
    fetch = start_weights.create_backbone

    def offline(name, weights=None):
        if weights:
            raise ConnectionError("no route")
        return fetch(name)

    start_weights.create_backbone = offline
    part = "a.yaml: weights: imagenet: the hub (keras) gives none (ConnectionError: no route); put VGG16_imagenet.keras"
    refused(part, check_member, "a", member(weights="imagenet"))
    assert not list(Path(os.environ["CXR_HOME"]).rglob("*.h5"))
    start_weights.create_backbone, os.environ["CXR_HOME"] = fetch, home


def what_keras_lacks_is_refused() -> None:
    refused("onecycle", backend.check_network, member(training={"schedule": "onecycle", "optimizer": "sgd"}))
    for key, settings in {
        "augment.rotate": {"augment": {"rotate": 0.5}}, "view.crop": {"view": {"size": 32, "crop": "box"}},
        "augment.clahe_too": {"augment": {"contrast": 0.5}},
        "sampling.positive_share": {"sampling": {"positive_share": 0.5}},
    }.items():  # fmt: skip
        refused(key, backend.check_network, member(input="tfrecord", **settings))


def unit_writes_what_stage_3_reads() -> None:
    for name in ("a", "b"):
        unit = config.build_training_step(RECIPE, paths(), name, 0, member())
        step.run_step(unit, lambda identity, metrics, unit=unit: step.train(unit, RECIPE, paths(), identity, metrics))
        assert unit.is_up_to_date
        left = {path.name for path in unit.folder.iterdir()}
        assert left >= {"weights.keras", "history.csv", "predictions.parquet", "features.npz", "run.json"}
        assert not any(name.startswith("checkpoint") for name in left)
    table = tables.read_table(unit.folder / "predictions.parquet", tables.PREDICTIONS, "")
    assert (table["split"] == "test").sum() == 3
    columns = (unit.folder / "history.csv").read_text().splitlines()[0]
    assert columns == "epoch,loss,lr,score,watched_loss"
    recipe = RECIPE.model_copy(update={"stage1": ["a", "b"]})
    stage = Stage(paths(), build_stack_step(recipe, paths(), read_stack_settings(recipe)).settings)
    rows = read_fold_rows(stage, 0, {})
    assert rows.features.shape == (len(rows.image_ids), 8)
