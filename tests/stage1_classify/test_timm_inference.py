"""Inference of timm members: passes, precision, loaders, memory."""

import numpy as np
import pytest
import torch

from cxr.errors import UsageError
from cxr.torchkit.checkpoint import save_weights
from cxr.training.augment import Augmentation
from stage1_classify.data import ClassifierData
from stage1_classify.timm_members import backend, inference, network

CPU = torch.device("cpu")


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
