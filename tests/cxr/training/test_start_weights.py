"""Start weights: where a file is looked for, what it says of its input, what a hub gives, and what it does not."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import save_file

from cxr import runs
from cxr.config import StrictModel
from cxr.errors import UsageError
from cxr.paths import ROOT
from cxr.torchkit.weights import download_weights, load_fitting, read_tensors
from cxr.training import start_weights
from cxr.training.start_weights import ExpectedInput, StartWeights

START = StartWeights("imagenet", "mobilenetv2_050", "timm")
NAME = "mobilenetv2_050_imagenet.safetensors"


class Member(StrictModel):
    """As far as a start changes it."""

    mean: float | None = None
    std: float | None = None
    backbone_args: dict = {}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The user's folder WEIGHTS."""
    monkeypatch.setenv("WEIGHTS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def put(path: Path, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.zeros(1, np.float32)}, path, metadata=metadata)
    return path


def test_the_users_folder_comes_before_the_projects_and_that_before_the_fetched(folder, monkeypatch, home):
    monkeypatch.setattr(start_weights, "ROOT", home.parent / "project")
    assert START.existing_file is None
    assert START.input_files == (START.download_path,)
    assert start_weights.list_missing_weights(START.input_files) == [home / "artifacts" / "weights" / "timm" / NAME]
    places = [START.download_path, home.parent / "project" / "weights" / NAME, folder / NAME]
    for path, whose in zip(places, ("hub", "project", "WEIGHTS"), strict=True):
        put(path, source="a lab")
        assert START.input_files == (path,)
        assert start_weights.list_missing_weights(START.input_files) == []
        noted = {"name": "imagenet", "file": NAME, "sha256": runs.digest_file(path), "origin": whose, "source": "a lab"}
        assert start_weights.record_start(START) == noted


def test_a_random_start_needs_no_file():
    for name in ("random", None):
        assert StartWeights(name).input_files == ()
        assert start_weights.record_start(StartWeights(name)) == {"name": "random"}


@pytest.mark.parametrize(("start", "files"), [
    (START, NAME),
    (StartWeights("imagenet", "Xception", "keras"), r"Xception_imagenet\.keras or Xception_imagenet\.h5"),
    (StartWeights("coco", "r50", "torchvision"), r"r50_coco\.safetensors"),
    (StartWeights("mine", "r50", "timm"), r"mine\.safet"),
])  # fmt: skip
def test_what_is_nowhere_is_named_and_the_way_out(start, files, folder):
    with pytest.raises(UsageError, match=rf"(?=.*{files})(?=.*{folder})(?=.*`weights: random`)"):
        start_weights.require_weights_file(start)


SAYS = json.dumps({"mean": 0.4, "std": 0.2})


@pytest.mark.parametrize(("metadata", "wanted"), [
    ({}, None), ({"source": "a lab"}, None), ({"mean": "0.5"}, None), ({"mean": "half", "std": "1"}, None),
    ({"mean": "0.5", "std": "0.25", "pad_type": "same"}, ExpectedInput(0.5, 0.25, "same")),
    ({"input": SAYS}, ExpectedInput(0.4, 0.2, "")),
    ({"source": "tf2_mobilenet_v2.tflite, dequantised"}, ExpectedInput(0.5, 0.5, "same")),
    ({"source": "TensorFlow Hub", "mean": "0.449", "std": "0.226"}, ExpectedInput(0.449, 0.226, "")),
])  # fmt: skip
def test_a_file_says_what_its_network_wants(folder, metadata, wanted):
    assert start_weights.read_expected_input(put(folder / NAME, **metadata)) == wanted


def test_a_silent_yaml_takes_what_the_file_wants_and_a_speaking_one_keeps_its_own(folder):
    put(folder / NAME, source="tflite")
    assert start_weights.adopt_expected_input(Member(), START, "backbone_args") == Member(
        mean=0.5, std=0.5, backbone_args={"pad_type": "same"}
    )
    own = Member(mean=0.1, std=0.2, backbone_args={"pad_type": ""})
    assert start_weights.adopt_expected_input(own, START, "backbone_args") == own
    assert start_weights.adopt_expected_input(Member(), StartWeights("random"), "backbone_args") == Member(
        mean=0.449, std=0.226
    )


def test_what_may_not_fit_is_remarked(folder):
    put(folder / NAME, input=SAYS)
    assert start_weights.list_input_conflicts(Member(), START, "backbone_args") == []
    assert start_weights.list_input_conflicts(Member(mean=0.4, std=0.2), START, "backbone_args") == []
    (other,) = start_weights.list_input_conflicts(
        Member(mean=0.5, backbone_args={"pad_type": "same"}), START, "backbone_args"
    )
    assert "mean 0.5, not 0.4; pad_type same, not none" in other
    put(folder / NAME)
    (silent,) = start_weights.list_input_conflicts(Member(), START, "backbone_args")
    assert "does not say" in silent
    assert start_weights.list_input_conflicts(Member(mean=0.5, std=0.5), START, "backbone_args") == []


def test_a_damaged_file_is_refused(folder):
    for content in (b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]"):
        (folder / NAME).write_bytes(content)
        start_weights._read_metadata.cache_clear()
        with pytest.raises(UsageError, match=NAME):
            start_weights.read_expected_input(folder / NAME) or read_tensors(folder / NAME)


def test_a_hub_that_gives_nothing_leaves_nothing(home):
    def broken(_start, path):
        path.write_bytes(b"half")
        raise ConnectionError("cut\noff")

    with pytest.raises(
        start_weights.DownloadError, match=rf"hub \(timm\) gives none \(ConnectionError: cut\); put {NAME} into"
    ):
        start_weights.fetch_weights(START, broken)
    assert [path for path in home.rglob("*") if path.is_file()] == []


@pytest.fixture
def hub(monkeypatch) -> SimpleNamespace:
    """timm's hub: the state of networks of its own, and what was asked."""
    found = SimpleNamespace(asked=[], states={})

    def answer(place, *_, **__):
        found.asked.append(place)
        name = "legacy_xception" if "xception" in place else place.split("/")[1].split(".")[0]
        torch.manual_seed(3)
        return found.states.setdefault(name, randomised(timm.create_model(name)))

    for loader in ("load_state_dict_from_hf", "load_state_dict_from_url"):
        monkeypatch.setattr(timm.models._builder, loader, answer)
    return found


def randomised(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """No two tensors alike, batch norm's among them."""
    return {k: torch.rand_like(v) + 0.1 if v.is_floating_point() else v for k, v in model.state_dict().items()}


def test_a_hub_is_asked_once_and_its_file_is_the_same_each_time(hub):
    start_weights.fetch_weights(START, download_weights)
    assert hub.asked == ["timm/mobilenetv2_050.lamb_in1k"]
    first = START.existing_file.read_bytes()
    start_weights.fetch_weights(START, download_weights)
    assert len(hub.asked) == 1
    START.existing_file.unlink()
    start_weights.fetch_weights(START, download_weights)
    assert START.existing_file.read_bytes() == first
    assert start_weights.read_expected_input(START.existing_file) == ExpectedInput(0.449, 0.226, "")
    assert start_weights.record_start(START)["source"] == "timm/mobilenetv2_050.lamb_in1k"


@pytest.mark.parametrize(("name", "how"), [
    ("mobilenetv2_050", {"features_only": True, "out_indices": (3,)}),
    ("convnext_atto", {"features_only": True, "out_indices": (2,)}),  # its 'stages.0' are 'stages_0' there
    ("legacy_xception", {"features_only": True, "out_indices": (3,)}),
    ("resnet18", {"num_classes": 0, "global_pool": ""}),
])  # fmt: skip
def test_what_is_loaded_is_what_timm_itself_loads(hub, name, how):
    start = StartWeights("imagenet", name, "timm")
    start_weights.fetch_weights(start, download_weights)
    theirs = timm.create_model(name, pretrained=True, in_chans=1, **how)
    ours = timm.create_model(name, in_chans=1, **how)
    assert load_fitting(ours, read_tensors(start.existing_file)) == 1
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_the_projects_own_file_is_whole():
    assert (
        StartWeights("phantom_mnv2", "mobilenetv2_100", "timm").existing_file
        == ROOT / "weights" / "phantom_mnv2.safetensors"
    )


def test_a_fetched_file_that_was_cut_is_missing(home):
    start_weights.fetch_weights(START, lambda _start, path: path.write_bytes(b"12345678"))
    assert START.existing_file == START.download_path
    START.download_path.write_bytes(b"1234")
    assert START.existing_file is None
    assert start_weights.list_missing_weights(START.input_files) == [START.download_path]
