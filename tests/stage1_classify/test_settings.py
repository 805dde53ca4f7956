"""Settings of a classifier: what is refused, and what a silent YAML means."""

import pytest

from cxr.config import load_settings
from cxr.errors import UsageError
from cxr.paths import ROOT
from cxr.recipe import read_recipe
from stage1_classify import config


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
