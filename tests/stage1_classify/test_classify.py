"""Stage 1: networks, examples, and the files that stage 3 reads."""

import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cxr import tables
from cxr.config import load_settings
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.files import read_json
from cxr.imaging.geometry import Box
from cxr.paths import ROOT, Paths
from cxr.recipe import Recipe, read_recipe
from cxr.runs import digest_file, read_metrics
from cxr.torchkit.checkpoint import save_weights
from cxr.torchkit.weights import save_start_weights
from cxr.training.augment import Augmentation
from cxr.training.cropping import View
from cxr.training.settings import HeadConfig
from stage1_classify import config, train
from stage1_classify.check import check_member
from stage1_classify.data import ClassifierData
from stage1_classify.frameworks import dispatch_by_framework
from stage1_classify.timm_members import backend, inference, network

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="r", about="a test", prepared_size=64, folds=2, subfolds=2, stage0="smoke", stage1=["smoke"], stage2=[],
    stage3="smoke",
)  # fmt: skip


@pytest.fixture
def paths(prepared_paths) -> Paths:
    return prepared_paths


@pytest.fixture
def data(paths) -> ClassifierData:
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    ids = prepared.folds["image_id"].tolist()
    return ClassifierData(prepared, dict.fromkeys(ids, Box(4, 8, 60, 56)), config.read_member("smoke"), ids, 1)


@pytest.mark.parametrize("name", ["mnv2_crop", "smoke", "effb4_crop", "xception_crop"])
def test_network_at_64_pixels(name):
    member = config.read_member(name).model_copy(update={"weights": "random"})
    model = network.build_classifier(member)
    features = model(torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8))
    assert features.shape == (2, member.head.width)
    logits = model.compute_logits(features)
    assert logits.shape == (2,)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen < (0.3 if "xception" in name else 0.001) * sum(p.numel() for p in model.parameters())


def test_one_batch_can_be_overfitted():
    member = config.read_member("smoke").model_copy(
        update={"head": HeadConfig(width=16, dropout=(0, 0, 0), pool="max")}
    )
    torch.manual_seed(0)
    model = network.build_classifier(member)
    batch = {"image": torch.randint(0, 255, (4, 1, 64, 64), dtype=torch.uint8), "label": torch.tensor([0.0, 1, 0, 1])}
    step, loss = torch.optim.Adam(model.parameters(), 0.01), backend._build_loss(member, torch.device("cpu"))
    for _ in range(30):
        value = loss(model, batch)
        step.zero_grad()
        value.backward()
        step.step()
    assert value.item() < 0.05


def test_positive_weight_counts_positives_more():
    once, twice = (loss_of(positive_weight=weight) for weight in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)


def test_label_smoothing_moves_the_labels_towards_a_half():
    """With .25 a positive of probability p costs -(.875 log p + .125 log(1 - p))."""
    p = np.exp(-loss_of())
    assert loss_of(label_smoothing=0.25) == pytest.approx(-(0.875 * np.log(p) + 0.125 * np.log(1 - p)), rel=1e-5)


def loss_of(**settings) -> float:
    """Loss of two equal positives under a network that is the same each time."""
    member = config.read_member("smoke").model_copy(update=settings)
    torch.manual_seed(0)
    model = network.build_classifier(member).eval()
    batch = {"image": torch.zeros(2, 1, 64, 64, dtype=torch.uint8), "label": torch.ones(2)}
    return backend._build_loss(member, torch.device("cpu"))(model, batch).item()


@pytest.mark.parametrize(("kind", "backbone", "width"), [("pooled", "resnet34", 512), ("flat", "resnet34", 24)])
def test_other_heads_at_64_pixels(kind, backbone, width):
    head = HeadConfig(kind=kind, width=24, dropout=(0, 0, 0.5))
    model = network.build_classifier(
        config.read_member("smoke").model_copy(update={"head": head, "backbone": backbone})
    )
    features = model(torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8))
    assert features.shape == (2, width)
    model.compute_logits(features).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_frozen_backbone_stays_as_it_is():
    model = network.build_classifier(config.read_member("smoke").model_copy(update={"freeze_backbone": True})).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.compute_logits(model(torch.randint(0, 255, (4, 1, 64, 64), dtype=torch.uint8))).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert all(p.grad is None for p in model.backbone.parameters())


def test_augmented_passes_are_averaged(data):
    member = data.member.model_copy(
        update={"tta_passes": 3, "augment": Augmentation(hflip=0.5, gamma={0.5: 1, 2.0: 1})}
    )
    data, ids = ClassifierData(data.prepared, data.boxes, member, data.image_ids, 1), data.image_ids[:3]
    model = network.build_classifier(member).eval()
    passes = []
    for number in (1, 2, 3):
        images = torch.from_numpy(np.stack([data.load_inference_image(image_id, number)["image"] for image_id in ids]))
        with torch.inference_mode():
            both = [model.compute_logits(model(view)) for view in (images, images.flip(-1))]
        passes.append(torch.stack(both).mean(0))
    expected = torch.sigmoid(torch.stack(passes).mean(0)).numpy()
    plain = ClassifierData(data.prepared, data.boxes, member.model_copy(update={"tta_passes": 0}), ids, 1)
    found, _ = inference.predict_images(model, data, ids, torch.device("cpu"))
    assert np.allclose(found, expected, atol=0.01)  # bfloat16 where the machine has it
    assert not np.allclose(inference.predict_images(model, plain, ids, torch.device("cpu"))[0], expected, atol=1e-4)


def test_a_keras_member_is_refused_what_only_pytorch_has(tmp_path):
    def refused(text: str) -> str:
        rest = "view: {size: 64, crop: full}\ntraining: {epochs: 1, batch: 2, lr: 0.1}\n"
        (tmp_path / "mine.yaml").write_text(text + rest)
        with pytest.raises(UsageError) as caught:
            load_settings(tmp_path / "mine.yaml", config.ClassifierConfig)
        assert "mine.yaml" in str(caught.value)
        return str(caught.value)

    assert "recalibrate" in refused("framework: keras\nbackbone: VGG16\nrecalibrate: true\n")
    assert "EfficientNetB4" in refused("framework: keras\nbackbone: resnet34\n")
    assert "tfrecord" in refused("backbone: resnet34\ninput: tfrecord\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sampling: {positives_only: true}", "positives_only: a classifier needs negatives"),
        ("freeze_backbone: true\nrecalibrate: true", "recalibrate: freeze_backbone leaves it nothing to do"),
        ("view: {size: 128, frame: 64, crop: full}", "view.frame: training sees squares of 128"),
        ("head: {kind: flat}\nview: {size: 64, frame: 128, crop: full}", "a flat head sees one size only"),
        ("training: {epochs: 1, batch: 1, lr: 1, schedule: cosine, warmup_epochs: 2}", "warmup do"),
        ("training: {epochs: 1, batch: 1, lr: 1, schedule: warmup, warmup_epochs: 2}", "needs lr_start"),
        ("training: {epochs: 1, batch: 1, lr: 1, ema: 2.0}", "training.ema"),
        ("augment: {rotate: 10}", "augment.rotate"),
        ("", "weights: say where it starts: imagenet, random, or the name of a file"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(tmp_path, text, said):
    rest = "".join(
        line for line in ("view: {size: 64, crop: full}\n", "training: {epochs: 1, batch: 2, lr: 0.1}\n")
        if line.split(":")[0] not in text
    )  # fmt: skip
    (tmp_path / "mine.yaml").write_text(f"backbone: resnet34\n{text}\n{rest}")
    with pytest.raises(UsageError, match=rf"mine\.yaml: .*{said}"):
        load_settings(tmp_path / "mine.yaml", config.ClassifierConfig)


def test_examples_are_keyed_and_carry_their_label(data):
    first, again = data.sample("1.2.0", 3), data.sample("1.2.0", 3)
    assert np.array_equal(first["image"], again["image"])
    assert first["image"].shape == (1, 64, 64)
    assert first["image"].dtype == np.uint8
    assert (first["label"], data.sample("1.2.2", 3)["label"]) == (1, 0)
    assert data.batches(0) != data.batches(1)


def test_unit_writes_what_the_contract_says(paths, monkeypatch):
    for fold in range(2):
        unit = config.build_training_step(RECIPE, paths, "smoke", fold, config.read_member("smoke"))
        train.run_step(unit, lambda identity, noted, unit=unit: train.train(unit, RECIPE, paths, identity, noted))
        assert unit.is_up_to_date
        found = tables.read_table(unit.folder / "predictions.parquet", tables.PREDICTIONS, "").set_index("image_id")
        features = np.load(unit.folder / "features.npz", allow_pickle=False)
        assert features["image_id"].tolist() == found.index.tolist()
        assert features["features"].shape == (len(found), 8)
        assert features["features"].dtype == np.float32
        folds = Prepared(paths.prepared_folder, paths.folds_csv).folds
        assert set(found.index[found["split"] == "train"]) == set(folds.index[folds["fold"] == fold])
        assert (found["split"] == "test").sum() == 3
        assert not (unit.folder / "checkpoint.pt").exists()
        assert read_metrics(unit.folder)["start"] == {"name": "random"}
        again = backend.infer(_data_of(paths, unit), list(found.index), unit.folder)
        assert np.allclose(again[0], found["prob"], atol=1e-6)  # saved and loaded, it says the same


def _data_of(paths, unit) -> ClassifierData:
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    boxes = {image_id: Box(4, 8, 60, 56) for image_id in prepared.manifest.index}
    return ClassifierData(prepared, boxes, unit.settings.member, [], 1)


def test_features_give_the_probability(data, tmp_path):
    """The bottleneck and the dense layer are all there is between an image and its probability."""
    member = data.member.model_copy(update={"hflip_tta": False})
    data = ClassifierData(data.prepared, data.boxes, member, data.image_ids, 1)
    model = network.build_classifier(member)
    prob, features = inference.predict_images(model, data, data.image_ids[:5], torch.device("cpu"))
    dense = model.head.dense[1]
    logits = features @ dense.weight.detach().numpy()[0] + dense.bias.item()
    assert np.allclose(1 / (1 + np.exp(-logits)), prob, atol=1e-5)


def test_what_is_kept_is_float32_also_where_training_is_not(data, monkeypatch):
    monkeypatch.setattr("cxr.torchkit.device.amp_dtype", lambda on: torch.bfloat16)
    ids, data = data.image_ids[:5], data.without_tta
    model = network.build_classifier(data.member)
    prob, features = inference.predict_images(model, data, ids, CPU)
    images = torch.from_numpy(np.stack([data.load_inference_image(image_id)["image"] for image_id in ids]))
    with torch.inference_mode():
        plain = model(images.contiguous(memory_format=torch.channels_last))
        assert np.allclose(features, plain, rtol=0, atol=1e-6)
        assert np.allclose(prob, torch.sigmoid(model.compute_logits(plain)), rtol=0, atol=1e-6)


def test_watching_passes_an_image_once_and_inference_as_often_as_asked(data):
    member = data.member.model_copy(update={"hflip_tta": True, "tta_passes": 3})
    data = ClassifierData(data.prepared, data.boxes, member, data.image_ids, 1)
    model, passed = network.build_classifier(member), []
    model.register_forward_pre_hook(lambda _model, images: passed.append(len(images[0])))
    backend._build_validator(data, data.image_ids[:4], CPU)(model)
    assert passed == [4]
    inference.predict_images(model, data, data.image_ids[:4], CPU)
    assert passed[1:] == [4] * 6


@pytest.mark.parametrize("workers", [0, 3])
def test_the_members_loaders_hold_in_recalibration_watching_and_inference(data, monkeypatch, workers):
    training = data.member.training.model_copy(update={"workers": workers, "epochs": 1})
    member = data.member.model_copy(update={"training": training, "recalibrate": True, "tta_passes": 2})
    data, asked = ClassifierData(data.prepared, data.boxes, member, data.image_ids[:8], 1), []
    monkeypatch.setattr("cxr.torchkit.loading.count_loaders", lambda count: asked.append(count) or 0)
    folder = data.prepared.folder / "a unit"
    backend.fit(data, data.image_ids[:4], folder, "id", "a test", 0)
    backend.infer(data, data.image_ids, folder)
    assert asked == [workers] * 5  # recalibration, training, watching, two passes


def test_too_little_memory_at_inference_names_the_member_and_the_batch(data, tmp_path, monkeypatch):
    def fails(*_arguments):
        raise torch.OutOfMemoryError

    folder = tmp_path / "one_member" / "fold3"
    save_weights(folder / "weights.safetensors", network.build_classifier(data.member).state_dict())
    monkeypatch.setattr(backend.Classifier, "compute_logits", fails)
    with pytest.raises(UsageError, match=r"one_member, fold3: out of memory with training\.batch: 4, .*batch: 2, "):
        backend.infer(data, data.image_ids, folder)


def test_local_weights_load_and_one_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    member = config.read_member("smoke")
    donor = network.build_classifier(member)
    tensors = {key: value.half() for key, value in donor.backbone.state_dict().items() if value.is_floating_point()}
    stem = tensors["conv_stem.weight"]
    tensors["conv_stem.weight"] = torch.cat([stem, torch.zeros_like(stem), stem], dim=1)  # as for three colours
    save_file(tensors, tmp_path / "mine.safetensors")
    model = network.build_classifier(member.model_copy(update={"weights": "mine"}))
    found = model.backbone.state_dict()["conv_stem.weight"]
    assert torch.allclose(found, 2 * donor.backbone.state_dict()["conv_stem.weight"], atol=1e-2)
    other = member.model_copy(update={"weights": "mine", "backbone": "resnet18"})
    with pytest.raises(UsageError, match="do not fit the backbone resnet18"):
        network.build_classifier(other)
    with pytest.raises(UsageError, match=r"expected absent\.safetensors"):
        network.build_classifier(member.model_copy(update={"weights": "absent"}))


def test_every_fold_loads_the_file_that_was_fetched_once(paths, monkeypatch, capsys):
    """By the stage's own command, alone: the hub is asked before the first unit, and by no unit."""
    asked = []

    def download(start, path):
        asked.append(start.file_stem)
        torch.manual_seed(5)
        tensors = timm.create_model(start.network).state_dict()
        save_start_weights(path, tensors, {"mean": 0.25, "std": 0.5})

    monkeypatch.setattr(backend, "download_weights", download)
    member = config.read_member("smoke").model_copy(update={"weights": "imagenet"})
    monkeypatch.setattr(config, "read_member", lambda _name: member)
    monkeypatch.setattr(train, "load_recipe_and_paths", lambda: (RECIPE, paths))
    monkeypatch.setattr("sys.argv", ["train"])
    train.main()
    assert asked == ["mobilenetv2_050_imagenet"]
    records = [read_json(unit.folder / "run.json") for unit in config.units(RECIPE, paths)]
    starts = [record["metrics"]["start"] for record in records]
    assert starts[0] == starts[1]
    assert starts[0]["sha256"] == digest_file(config.get_start_weights(member).existing_file)
    assert [record["config"]["member"]["mean"] for record in records] == [0.25, 0.25]
    assert all(unit.is_up_to_date for unit in config.units(RECIPE, paths))
    config.get_start_weights(member).existing_file.unlink()  # where it is gone, nothing is trained from something else
    assert not any(unit.is_up_to_date for unit in config.units(RECIPE, paths))
    monkeypatch.setattr(backend, "download_weights", lambda *_: 1 / 0)
    with pytest.raises(UsageError, match=r"smoke\.yaml: weights: imagenet: .*put mobilenetv2_050_imagenet\.safe"):
        train.main()
    assert [read_json(unit.folder / "run.json") for unit in config.units(RECIPE, paths)] == records


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backbone": "resnet43"}, r"smoke\.yaml: backbone: .*near it: .*resnet34"),
        ({"head": HeadConfig(stride=64)}, r"smoke\.yaml: head\.stride: .*it has \[2, 4, 8, 16, 32\]"),
        ({"backbone_args": {"pads": 1}}, r"smoke\.yaml: backbone_args: "),
        ({"weights": "phantom_mnv2", "backbone": "resnet18"}, r"smoke\.yaml: weights: 'phantom_mnv2' do not fit"),
        ({"weights": "imagenet", "backbone": "efficientnet_b6"}, r"smoke\.yaml: weights: timm has no ImageNet weights"),
        (
            {"backbone": "vit_tiny_patch16_224", "head": HeadConfig(kind="pooled")},
            r"smoke\.yaml: backbone: vit_tiny_patch16_224 with head: \{kind: pooled\} cannot take 64 x 64 images",
        ),
        ({"backbone": "vit_tiny_patch16_224"}, r"smoke\.yaml: backbone: "),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(settings, said):
    with pytest.raises(UsageError, match=said):
        check_member("smoke", config.read_member("smoke").model_copy(update=settings))


@pytest.mark.parametrize("name", ["mnv2_crop", "effb4_crop", "xception_crop", "erinqhu_resnet34"])
def test_what_can_be_made_passes_the_check(name):
    check_member(name, config.read_member(name).model_copy(update={} if name == "mnv2_crop" else {"weights": "random"}))


def test_the_shared_imagenet_file_is_found_and_its_input_known(real, monkeypatch, tmp_path):
    """Born in TensorFlow; where the hub's file of that name is taken, its own mean and padding hold."""
    monkeypatch.setenv("WEIGHTS", str(real / "weights"))
    member = config.complete_member(config.read_member("mobilenet_crop"))
    assert (member.mean, member.std, member.backbone_args) == (0.5, 0.5, {"pad_type": "same"})
    check_member("mobilenet_crop", config.read_member("mobilenet_crop"))
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    save_start_weights(
        tmp_path / "mobilenetv2_100_imagenet.safetensors", {}, {"mean": 0.449, "std": 0.226, "source": "timm/ra_in1k"}
    )
    member = config.complete_member(config.read_member("mobilenet_crop"))
    assert (member.mean, member.std, member.backbone_args) == (0.449, 0.226, {})


def test_a_keras_member_whose_yaml_is_silent_sees_what_its_weights_want():
    silent = config.read_member("xception_crop_keras").model_copy(update={"mean": None, "std": None})
    assert (config.complete_member(silent).mean, config.complete_member(silent).std) == (0.5, 0.5)
    random = config.complete_member(silent.model_copy(update={"weights": "random"}))
    assert (random.mean, random.std) == (0.449, 0.226)


def test_a_member_alone_has_the_size_that_it_has_in_its_recipe():
    recipe = read_recipe(ROOT / "recipes" / "erinqhu.yaml").smoke_trial()
    together = config.read_members(recipe)
    assert together["erinqhu_vgg16"].view.size == 32
    assert config.read_members(recipe, ["erinqhu_vgg16"]) == {"erinqhu_vgg16": together["erinqhu_vgg16"]}


def test_a_zoomed_positive_keeps_its_lesion(data):
    augment = Augmentation(zoom_in=1)
    member = data.member.model_copy(update={"augment": augment, "view": View(size=64, crop="full")})
    data = ClassifierData(data.prepared, {}, member, data.image_ids, 1)
    lesions = [i for i in data.image_ids if data.prepared.read_mask(i).any()]
    for image_id in lesions:
        bright = (data.prepared.read_image(image_id)[data.prepared.read_mask(image_id) > 0] > 200).sum()
        assert (data.sample(image_id, 0)["image"] > 200).sum() >= bright


@pytest.mark.parametrize("view", [{"random_share": 1.0, "random_low": 0.25, "random_high": 0.4}, {"frame": 160}])
def test_a_crop_without_the_lesion_is_a_negative(data, view):
    """The lesion is the one bright part of the picture."""
    member = data.member.model_copy(
        update={"view": View(size=64, crop="full", **view), "augment": Augmentation(hflip=0.5)}
    )
    data = ClassifierData(data.prepared, {}, member, data.image_ids, 1)
    samples = [data.sample(image_id, epoch) for image_id in data.image_ids for epoch in range(6)]
    bright = [(sample["image"] > 170).sum() for sample in samples]
    sure = [(sample["label"], count > 0) for sample, count in zip(samples, bright, strict=True) if not 0 < count < 40]
    assert all(label == held for label, held in sure)
    lost = [image_id for image_id in data.image_ids if data.prepared.read_mask(image_id).any()
            and 0 in (data.sample(image_id, epoch)["label"] for epoch in range(6))]  # fmt: skip
    assert len(lost) > 3


def test_no_pass_of_inference_sees_what_a_reader_drew(data):
    """A zoom that keeps the lesion in sight is for training: on held-out images it would tell where the lesion is."""
    member = data.member.model_copy(update={"tta_passes": 2, "augment": Augmentation(zoom_in=1)})
    with_masks = ClassifierData(data.prepared, data.boxes, member, data.image_ids, 1)
    before = [with_masks.load_inference_image(image_id, 1)["image"] for image_id in data.image_ids]
    vars(data.prepared)["masks"] = np.zeros_like(data.prepared.masks)
    after = [with_masks.load_inference_image(image_id, 1)["image"] for image_id in data.image_ids]
    np.testing.assert_array_equal(before, after)


def test_a_stage_hands_members_of_another_framework_to_another_process(monkeypatch):
    torchs, kerass = config.read_member("smoke"), config.read_member("smoke").model_copy(update={"framework": "keras"})
    called = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: called.append(command) or SimpleNamespace(returncode=0))
    members = {"a": torchs, "b": kerass, "c": torchs}
    assert [name for name, _ in dispatch_by_framework(members, "m", ["--fold", "1"])] == ["a", "c"]
    assert [command[1:] for command in called] == [["-m", "m", "--member", "b", "--fold", "1"]]
