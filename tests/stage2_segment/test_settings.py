"""Stage 2's settings: what cannot be is refused, by file and key; start members come first; the published members."""

import pytest

from cxr.errors import UsageError
from cxr.recipe import SmallTrial
from pipeline.stages import feeds_into
from stage2_segment import check, config

FCN = {"architecture": "fcn", "encoder": None, "decoder_channels": [8, 8, 8]}
HEAD, FLAT = {"kind": "pooled"}, {"kind": "flat"}
WRONG = [
    ({"encoder": None}, "encoder: unet needs one"),
    ({"decoder_channels": [16, 8]}, "decoder_channels: unet takes 5 numbers, not 2"),
    ({"attention": "scse"}, "decoder_channels: attention: scse needs at least 16"),
    (FCN | {"encoder": "resnet34"}, "encoder: fcn has no encoder; leave it out, or take unet"),
    (FCN | {"label_head": {"head": HEAD}}, "label_head: fcn has no encoder"),
    (FCN | {"decoder_channels": None}, r"decoder_channels: fcn takes 2 to 5 .* \[32, 64, 128, 128\]"),
    ({"view": {"size": 64, "frame": 32, "crop": "full"}}, "view.frame: .* at least 64"),
    ({"label_head": {"head": {"stride": 12}}}, "label_head.head.stride: 2, 4, 8, 16 or 32, not 12"),
    ({"view": {"size": 32, "frame": 64, "crop": "full"}, "label_head": {"head": FLAT}}, "take pooled or tap"),
    ({"freeze_encoder": True, "recalibrate": True}, "recalibrate: freeze_encoder"),
    ({"start_from": "smoke", "weights": "imagenet"}, "weights: start_from brings the weights"),
    ({"weights": None}, "weights: say where it starts: imagenet, random, or the name of a file"),
    (FCN | {"weights": "imagenet"}, "weights: fcn has no encoder to take them"),
    ({"loss": {"bce": 0, "dice": 0}}, "loss: every weight is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_settings_that_do_not_fit_together(settings, message, member):
    with pytest.raises(UsageError, match=rf"odd\.yaml: .*{message}"):
        member("odd", **settings)


PLUS = {"architecture": "unetplusplus"}
MISFITS = [
    ({"encoder": "resnet3"}, r"odd\.yaml: key 'encoder': .* what fits: encoder: resnet34"),
    ({"encoder": "tu-resnet3"}, r"odd\.yaml: key 'encoder': .* what fits: .*encoder: tu-resnet34"),
    ({"encoder": "tu-legacy_xception"} | PLUS, "what fits: .*encoder: xception.* architecture: unet"),
    ({"encoder": "mit_b0"} | PLUS, "what fits: .*architecture: unet"),
    ({"encoder": "tu-vit_tiny_patch16_224"}, "Unsupported model downsampling pattern.* what fits: an encoder of seg"),
    ({"weights": "phantom_mnv2"}, r"key 'weights': .*'phantom_mnv2' do not fit .* conv_stem.weight of shape \[16, 1"),
    ({"weights": "nowhere"}, r"key 'weights': weights 'nowhere' are not in .*expected nowhere\.safetensors"),
    ({"weights": "imagenet", "encoder": "tu-efficientnet_b7"}, "key 'weights': timm has no ImageNet weights of effi"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), MISFITS)
def test_networks_that_cannot_be_built(settings, message, member):
    with pytest.raises(UsageError, match=message):
        check.check_member("odd", member("odd", **settings))


def test_a_recipe_is_checked_before_any_work(recipe, paths, member, monkeypatch, capsys):
    member("odd", encoder="nonsense")
    check.check_members(recipe, paths)
    assert "1 members can be built" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"odd\.yaml"):
        check.check_members(recipe.model_copy(update={"stage2": ["smoke", "odd"]}), paths)
    monkeypatch.setattr(config.Step, "is_up_to_date", True)
    check.check_members(recipe.model_copy(update={"stage2": ["odd"]}), paths)
    assert "up to date" in capsys.readouterr().out


def chain(member) -> None:
    member("first")
    member("second", start_from="first", view={"size": 64, "crop": "full"})
    member("third", start_from="second", view={"size": 128, "crop": "full"})
    member("other", start_from="first")


def test_start_members_come_first_and_once(recipe, paths, member):
    chain(member)
    found = config.units(recipe.model_copy(update={"stage2": ["third", "other"]}), paths)
    names = ["first", "first", "second", "second", "third", "third", "third", "other", "other", "other"]
    assert [unit.name.split()[2] for unit in found] == names
    assert [unit.settings.maps for unit in found] == [False] * 4 + [True] * 6
    first, second, third = found[1], found[3], found[5]
    assert feeds_into(first, second)
    assert feeds_into(second, third)
    assert not feeds_into(found[0], second)  # another fold's


def test_a_start_member_that_is_in_the_recipe_writes_its_maps(recipe, paths, member):
    chain(member)
    found = config.units(recipe.model_copy(update={"stage2": ["second", "first"]}), paths)
    assert [unit.name.split()[2] for unit in found] == ["first"] * 3 + ["second"] * 3
    assert all(unit.settings.maps for unit in found)


def test_a_trial_in_small_keeps_the_proportion_of_start_members(recipe, member):
    chain(member)
    small = recipe.model_copy(update={"stage2": ["third"], "small": SmallTrial(size=64), "weights": "phantom_mnv2"})
    found = config.read_members(small)
    assert {name: each.view.size for name, each in found.items()} == {"first": 32, "second": 32, "third": 64}
    assert config.read_members(small, "second") == found
    assert [each.weights for each in found.values()] == ["phantom_mnv2", None, None]  # start_from brings the weights


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("a", r"b\.yaml: key 'start_from': members start from each other in a circle: a <- b <- a"),
        ("smok", "did you mean smoke"), ("unet_mnv2_crop", "is another network: its encoder is tu-mobilenetv2_100"),
    ],
)  # fmt: skip
def test_start_members_that_do_not_fit(start, message, recipe, member):
    member("b", start_from=start)
    found = member("a", start_from="b")
    with pytest.raises(UsageError, match=message):
        config.list_start_members("a", found)


def test_published_settings():
    """Figures of the published systems, in places that are easy to get wrong."""
    sneddy, fourth = config.read_member("sneddy_resnet34"), config.read_member("amirassov_resnet34")
    assert config.list_start_members("sneddy_resnet34", sneddy) == ["sneddy_resnet34_512", "sneddy_resnet34_1024"]
    parts = [config.read_member(f"sneddy_resnet34{part}") for part in ("_512", "_1024", "")]
    assert [part.sampling.positive_share for part in parts] == [0.8, 0.6, 0.4]
    assert (sneddy.loss.bce, sneddy.loss.dice, sneddy.loss.focal) == (3, 1, 4)
    assert (fourth.view.size, fourth.view.inference_size) == (512, 768)
    assert [round(fourth.sampling.share_in_epoch(epoch, 30), 2) for epoch in (0, 29)] == [0.8, 0.22]
