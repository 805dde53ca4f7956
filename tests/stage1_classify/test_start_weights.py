"""Start weights of timm members, and the check of a member before any work."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from cxr.errors import UsageError
from cxr.files import read_json
from cxr.runs import digest_file
from cxr.torchkit.weights import save_start_weights
from cxr.training.settings import HeadConfig
from stage1_classify import config, train
from stage1_classify.check import check_member
from stage1_classify.timm_members import backend, network
from tests.stage1_classify.conftest import RECIPE


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
