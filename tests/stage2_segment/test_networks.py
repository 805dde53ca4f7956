"""Stage 2's networks: every published member at 64 pixels, what is frozen, start weights, parameter counts."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.numpy import save_file

from cxr.errors import UsageError
from cxr.files import write_json
from cxr.torchkit.checkpoint import save_weights
from cxr.training.settings import HeadConfig
from stage2_segment import check, config, networks
from stage2_segment.losses import SegmenterLoss
from weights.pack import pack_tensors

IMAGES = torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCH = {"image": IMAGES, "mask": (IMAGES > 128).to(torch.uint8), "label": torch.tensor([0.0, 1])}
# One member of each network; the last five by settings that no YAML has.
NETWORKS = {
    "unet_mnv2_crop": {}, "unetpp_mnv2_full": {}, "start_unet": {}, "unet_effb4_crop": {}, "unetpp_xception_crop": {},
    "reyvaz_unet_b3_544": {}, "reyvaz_unetpp_b1_512": {}, "nguyen_resnet50": {}, "nguyen_seresnext101": {},
    "prasadsawant_fcn": {}, "sneddy_resnet34": {}, "sneddy_seresnext50": {}, "amirassov_resnet34": {},
    "unet b0 scse": {"encoder": "efficientnet-b0", "attention": "scse"},
    "unet++ b2 scse": {"architecture": "unetplusplus", "encoder": "efficientnet-b2", "attention": "scse"},
    "unet xception": {"encoder": "xception"},
    "flat head": {"label_head": {"head": {"kind": "flat", "width": 8}}},
    "pooled head": {"label_head": {"head": {"kind": "pooled", "pool": "max"}}},
}  # fmt: skip
SIXTY_FOUR = {"view": {"size": 64, "crop": "full"}, "decoder_channels": [32, 16, 16, 16, 16]}


def network(name: str, member, **changes) -> config.SegmenterConfig:
    """A shipped member, or one of NETWORKS' settings, without start weights."""
    found = member("m", **(SIXTY_FOUR | NETWORKS[name])) if NETWORKS[name] else config.read_member(name)
    view = found.view.model_copy(update={"size": 64})
    return found.model_copy(update={"weights": "random", "start_from": None, "view": view} | changes)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_at_64_pixels(name, member):
    settings = network(name, member, freeze_norm=False)
    model = networks.build_segmenter(settings)
    logits, label = model(IMAGES)
    assert logits.shape == (2, 1, 64, 64)
    assert torch.isfinite(logits).all()
    assert (None if label is None else tuple(label.shape)) == ((2,) if settings.label_head else None)
    SegmenterLoss(settings)(model, BATCH).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert (model.backbone is None) == (settings.architecture == "fcn")


def test_the_backbone_is_in_layers(member):
    assert len(list(networks.build_segmenter(member("m")).backbone.children())) > 2  # not the one wrapper around timm's


def test_frozen_encoder_stays_as_it_is(member):
    model = networks.build_segmenter(member("m", freeze_encoder=True)).train()
    before = {k: v.clone() for k, v in model.net.encoder.state_dict().items()}
    model(IMAGES)[0].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.net.encoder.state_dict().items())
    assert all(p.grad is None for p in model.net.encoder.parameters())
    assert all(p.grad is not None for p in model.net.decoder.parameters())


def test_frozen_norm_stays_and_the_rest_learns(member):
    model = networks.build_segmenter(member("m", freeze_norm=True)).train()
    norms = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    inner = {f"{name}.{key}" for name, m in norms.items() if "encoder" in name for key in ("weight", "bias")}
    before = {name: norm.running_mean.clone() for name, norm in norms.items()}
    model(IMAGES)[0].sum().backward()
    assert inner == {name for name, parameter in model.named_parameters() if parameter.grad is None}
    changed = {name for name, norm in norms.items() if not torch.equal(norm.running_mean, before[name])}
    assert changed == {name for name in norms if "encoder" not in name}


def test_one_batch_can_be_overfitted(member):
    torch.manual_seed(0)
    settings = member("m")
    model, loss = networks.build_segmenter(settings), SegmenterLoss(settings)
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    mask[0, :, 10:40, 10:30] = 1
    batch = {"image": IMAGES // 4 + 100 * mask, "mask": mask, "label": torch.tensor([1.0, 0])}
    step = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        value = loss(model, batch)
        step.zero_grad()
        value.backward()
        step.step()
    assert value.item() < 0.2


def test_a_pair_that_the_library_lacks_is_refused(member):
    with pytest.raises(UsageError, match=r"encoder 'nonsense' cannot be paired with unetplusplus.{0,60}$"):
        networks.build_segmenter(member("m", architecture="unetplusplus", encoder="nonsense"))


def test_start_weights_carry_encoder_decoder_and_label_head(tmp_path, monkeypatch, member):
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    settings = member("m").model_copy(update={"label_head": config.LabelHead(head=HeadConfig(width=8))})
    donor = networks.build_segmenter(settings)
    save_weights(tmp_path / "weights.safetensors", donor.state_dict())
    write_json(tmp_path / "run.json", {"config": {"member": {"architecture": "unet"}}})
    save_file(pack_tensors(tmp_path), tmp_path / "mine.safetensors")
    model = networks.build_segmenter(settings.model_copy(update={"weights": "mine"}))
    for name, value in donor.state_dict().items():
        assert torch.allclose(value.float(), model.state_dict()[name].float(), atol=1e-3), name


def test_an_encoder_of_smps_own_starts_as_smp_loads_it(tmp_path, monkeypatch, member):
    """Of three colours in the hub's file, of one gray channel here."""
    donor = smp.encoders.get_encoder("resnet18").state_dict()
    save_weights(tmp_path / "model.safetensors", donor | {"fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)})
    about = {"mean": [0.3, 0.4, 0.5], "std": [0.2, 0.2, 0.2], "input_range": [0, 1]}
    write_json(tmp_path / "config.json", about)
    monkeypatch.setattr(smp.encoders, "hf_hub_download", lambda _repo, filename, **_: str(tmp_path / filename))
    settings = member("m", encoder="resnet18", weights="imagenet")
    check.check_member("m", settings)
    monkeypatch.delattr(smp.encoders, "hf_hub_download")  # from now on nobody is asked
    model, theirs = networks.build_segmenter(settings), donor["conv1.weight"].sum(1, keepdim=True)
    assert (model.mean, model.std) == (255 * 0.4, 255 * 0.2)
    own = model.encoder.state_dict()
    torch.testing.assert_close(own, donor | {"conv1.weight": theirs})
    half = {key: value for key, value in donor.items() if not key.startswith("layer4.1")}
    save_weights(tmp_path / config.get_start_weights(settings).existing_file.name, half)
    monkeypatch.setenv("WEIGHTS", str(tmp_path))  # a user's file comes before the hub's
    with pytest.raises(UsageError, match="'imagenet' do not fit the encoder resnet18"):
        networks.build_segmenter(settings)


def test_a_member_sees_images_as_the_one_that_it_starts_from(tmp_path, monkeypatch, member):
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    save_file({}, tmp_path / "born.safetensors", metadata={"source": "tflite"})
    found = {"b": member("b", start_from="a"), "a": member("a", weights="born")}
    first, second = (config.complete_members(found)[name] for name in "ab")
    assert (first.mean, first.std, first.encoder_args) == (0.5, 0.5, {"pad_type": "same"})
    assert (second.mean, second.std, second.encoder_args) == (0.5, 0.5, {"pad_type": "same"})


# As published; and how many fewer ours has.
PUBLISHED = {
    "reyvaz_unet_b3_544": (20_924_985, 8_277_968), "reyvaz_unet_b4_544": (29_250_921, 9_715_808),
    "reyvaz_unetpp_b1_512": (16_013_857, 7_380_560), "reyvaz_unetpp_b4_480": (29_036_025, 9_094_448),
}  # fmt: skip
# Channels of Keras's EfficientNets: after the last 1x1 convolution; expanded by 6 at strides 16, 8, 4, 2; and expanded
# at stride 16 in an earlier block.
KERAS = {
    "b1": ((1280, 672, 240, 144, 96), 480), "b3": ((1536, 816, 288, 192, 144), 576),
    "b4": ((1792, 960, 336, 192, 144), 672),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones_but_for_the_decoder(name):
    published, fewer = PUBLISHED[name]
    settings = config.read_member(name)
    encoder = settings.encoder.removeprefix("tu-")
    decoder = keras_unet if settings.architecture == "unet" else keras_unetpp
    assert keras_encoder(encoder) + decoder(*KERAS[encoder[-2:]]) == published
    assert published - networks.count_parameters(settings) == fewer


def keras_encoder(name: str) -> int:
    """Of three channels, to the 1x1 convolution at the top, batch norm's statistics counted."""
    with torch.device("meta"):
        tensors = timm.create_model(name, num_classes=0).state_dict()
    return sum(value.numel() for key, value in tensors.items() if not key.endswith("num_batches_tracked"))


def node(below: int, skips: int, width: int) -> int:
    """4x4 transposed convolution, concatenation, 3x3 convolution, batch norm (4 numbers a channel) after both."""
    return 16 * below * width + 4 * width + 9 * (width + skips) * width + 4 * width


def keras_unet(channels: tuple[int, ...], _unused: int) -> int:
    top, *skips = channels
    total, below = 9 * 16 + 1, top  # the last 3x3 convolution
    for skip, width in zip((*skips, 0), (256, 128, 64, 32, 16), strict=True):
        total, below = total + node(below, skip, width), width
    return total


def keras_unetpp(channels: tuple[int, ...], earlier: int) -> int:
    """Rows at strides 16, 8, 4, 2 of 1 to 4 nodes; the second rises from an earlier block at stride 16."""
    top, *skips = channels
    rows = zip(skips, (16, 256, 128, 64), (top, earlier, *skips[1:3]), strict=True)
    total, below = 0, 0
    for row, (skip, width, start) in enumerate(rows):
        for column in range(row + 1):
            total += node(below if column else start, skip + column * width, width)
        below = width
    return total + node(below, 0, 32) + 9 * 32 + 1
