"""The detectors: torchvision's Faster R-CNN with a ResNet-50 backbone, or with MobileNetV2 and a slim pyramid."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.loading import load_in_order
from cxr.torchkit.weights import load_fitting, read_parts, read_tensors, save_start_weights, set_norm_statistics
from cxr.training.start_weights import RANDOM, StartWeights, require_weights_file, weights_origin
from stage0_bbox.config import DetectorConfig, get_start_weights
from stage0_bbox.data import BoxData

WIDTH = 96  # channels of the slim pyramid
# Sides of the anchors as shares of the frame, for each level: a chest fills .3 to .95 of the frame's sides.
ANCHORS = ((0.45, 0.65), (0.65, 0.85))
RATIOS = (0.8, 1.0, 1.25)
CLASS_LAYER_PREFIX = "roi_heads.box_predictor."  # layers that depend on the classes, of which COCO has others


class Detector(nn.Module):
    """Gray images uint8 [B, 1, s, s]; with boxes [B, 4]: the losses by name; without: boxes [B, 4], scores [B]."""

    def __init__(self, settings: DetectorConfig) -> None:
        super().__init__()
        self.vote_iou = settings.vote_iou
        is_small = settings.model == "fasterrcnn_mobilenetv2"
        self.net = _build_small_detector(settings.size) if is_small else _build_resnet50_detector(settings.size)
        self.net.backbone = MixedPrecisionBackbone(self.net.backbone)
        self.channels = 1 if is_small else 3

    def forward(self, image: torch.Tensor, box: torch.Tensor | None = None):
        images, device_type = self._scale_images(image), image.device.type
        uses_autocast = torch.is_autocast_enabled(device_type)
        self.net.backbone.dtype = torch.get_autocast_dtype(device_type) if uses_autocast else None
        with torch.autocast(device_type, enabled=False):
            if box is None:
                return self._vote_boxes(self.net(images), image)
            chest_label = torch.ones(1, dtype=torch.int64, device=image.device)
            return self.net(images, [{"boxes": edges[None], "labels": chest_label} for edges in box.float()])

    def normalise_images(self, image: torch.Tensor) -> torch.Tensor:
        """Images uint8 [B, 1, s, s] as the backbone gets them."""
        return self.net.transform(self._scale_images(image))[0].tensors

    def _scale_images(self, image: torch.Tensor) -> list[torch.Tensor]:
        return list((image.float() / 255).expand(-1, self.channels, -1, -1))

    def _vote_boxes(self, detections: list[dict], image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        votes = [vote_box(d["boxes"], d["scores"], self.vote_iou) for d in detections]
        return torch.stack([box for box, _ in votes]), torch.stack([score for _, score in votes])


class MixedPrecisionBackbone(nn.Module):
    """The only part that runs in mixed precision: proposals and losses need the range and precision of float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.out_channels, self.dtype = inner, inner.out_channels, None

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.autocast(images.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            features = self.inner(images)
        return OrderedDict((name, feature.float()) for name, feature in features.items())


def vote_box(boxes: torch.Tensor, scores: torch.Tensor, min_iou: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The score-weighted mean [4] of the detections [n, 4] near the best one, and the best score; 0 where n is 0.

    Box voting, Gidaris and Komodakis 2015 (arXiv:1505.01749).
    """
    from torchvision.ops import box_iou

    if not len(boxes):
        return boxes.new_zeros(4), boxes.new_zeros(())
    best_row = scores.argmax()
    weights = scores * (box_iou(boxes[best_row : best_row + 1], boxes)[0] >= min_iou)
    return (boxes * weights[:, None]).sum(0) / weights.sum(), scores[best_row]


class SlimBackbone(nn.Module):
    """MobileNetV2 under timm's names, strides 16 and 32, and a pyramid of a few channels on them."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        import timm
        from torchvision.ops import FeaturePyramidNetwork

        # TensorFlow's ImageNet weights and our phantom weights were trained with the padding 'same'.
        options = {"features_only": True, "out_indices": (3, 4), "in_chans": 1, "pad_type": "same"}
        self.body = timm.create_model("mobilenetv2_100", pretrained=False, **options)
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), width)
        self.out_channels = width

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.pyramid(OrderedDict((str(level), x) for level, x in enumerate(self.body(images))))


def _build_small_detector(size: int) -> nn.Module:
    """Few proposals and a slim head: there is one chest, and it is large."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign

    anchors = tuple(tuple(int(size * share) for share in level) for level in ANCHORS)
    return FasterRCNN(
        SlimBackbone(), min_size=size, max_size=size, image_mean=[0.5], image_std=[0.5],  # x / 127.5 - 1
        rpn_anchor_generator=AnchorGenerator(anchors, (RATIOS,) * len(anchors)),
        rpn_pre_nms_top_n_train=200, rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_train=64,
        rpn_post_nms_top_n_test=24, rpn_batch_size_per_image=64, rpn_nms_thresh=0.8,
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(WIDTH * 49, 256), box_predictor=FastRCNNPredictor(256, 2),
        box_batch_size_per_image=32, box_nms_thresh=0.95, box_detections_per_img=20, box_score_thresh=0.02,
        _skip_resize=True,
    )  # fmt: skip


def _build_resnet50_detector(size: int) -> nn.Module:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    return fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=2, min_size=size, max_size=size,
        box_nms_thresh=0.95, box_detections_per_img=20,
    )  # fmt: skip


def sum_losses(model: Detector, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum of the losses of proposals and boxes, which the training minimises; batch: image, box."""
    return sum(model(batch["image"], batch["box"]).values())


def recalibrate_detector(model: Detector, data: BoxData) -> None:
    """Set the backbone's batch norm statistics on training images: the start weights were trained on other images."""
    image_ids, batch = sorted(data.boxes)[:128], data.detector.training.batch
    batches = load_in_order(image_ids, data.load_inference_image, batch, data.detector.training.workers)
    set_norm_statistics(model.net.backbone.inner, (model.normalise_images(images["image"]) for images in batches))


def build_detector(settings: DetectorConfig) -> tuple[Detector, str]:
    """A detector with its start weights, and a description of their origin; UsageError where they do not fit."""
    model = Detector(settings)
    if get_start_weights(settings).is_random:
        return model, RANDOM
    path = require_weights_file(get_start_weights(settings))
    share = (_load_detector if model.channels == 3 else _load_encoder)(model, path)
    if share < get_start_weights(settings).min_tensor_share:
        raise UsageError(f"weights '{settings.weights}' ({path.name}) do not fit {settings.model} ({share:.0%} found)")
    return model, f"{path.name}, {weights_origin(path)} ({share:.0%} of the tensors)"


def _load_encoder(model: Detector, path: Path) -> float:
    return load_fitting(model.net.backbone.inner.body, read_parts(path)["encoder"])


def _load_detector(model: Detector, path: Path) -> float:
    """Load torchvision's tensors (our backbone is one level deeper); share of those found, without the class layers."""
    tensors = {key.replace("backbone.", "backbone.inner.", 1): value for key, value in read_tensors(path).items()}
    share = load_fitting(model.net, tensors)
    float_keys = [key for key, value in model.net.state_dict().items() if value.is_floating_point()]
    needed_keys = [key for key in float_keys if not key.startswith(CLASS_LAYER_PREFIX)]
    return min(1.0, round(share * len(float_keys) / len(needed_keys), 6))


def download_coco_weights(_start: StartWeights, path: Path) -> None:
    """Write COCO's weights of the whole detector; OSError (urllib's errors are) where they cannot be fetched."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights as Weights

    tensors = Weights.COCO_V1.get_state_dict(progress=False)
    save_start_weights(path, tensors, {"source": f"torchvision {Weights.COCO_V1.name}"})
