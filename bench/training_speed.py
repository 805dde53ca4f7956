"""Milliseconds an image in training and inference of the small networks, our way and the plain way in one run.

python -m bench.training_speed [--size 256] [--batch 8] [--steps 6]

Ours: channels-last, and the device's reduced precision in training (cxr.torchkit.device). Plain: NCHW, float32.
Inference is float32 in both, because its results are kept; 'reduced' is its time in the precision of training.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from cxr.torchkit.device import autocast, full_precision, move_batch, select_device
from stage1_classify import config as classify
from stage1_classify.timm_members import backend, network
from stage2_segment import config as segment
from stage2_segment import networks
from stage2_segment.losses import SegmenterLoss


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.training_speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in {"size": 256, "batch": 8, "steps": 6}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    size = arguments.size
    print(f"{select_device()}, {size} x {size}, batch {arguments.batch}: milliseconds an image, train / infer")
    for name, (model, loss) in build_networks().items():
        (*our_times, reduced_time), (*plain_times, _) = (
            measure_times(model, loss, arguments, fast) for fast in (True, False)
        )
        ratios = " / ".join(f"{slow / fast:.1f}" for fast, slow in zip(our_times, plain_times, strict=True))
        print(
            f"{name:18} ours {our_times[0]:6.1f} / {our_times[1]:5.1f} (reduced {reduced_time:5.1f})   "
            f"plain {plain_times[0]:6.1f} / {plain_times[1]:5.1f}   x {ratios}"
        )


def build_networks() -> dict:
    """The small recipes' networks with random weights, and their losses: name -> (network, loss)."""
    network_and_loss = {}
    member = classify.read_member("mnv2_crop").model_copy(update={"weights": "random"})
    network_and_loss["mnv2_crop"] = network.build_classifier(member), backend._build_loss(member, select_device())
    for name in ("unet_mnv2_crop", "unetpp_mnv2_full"):
        member = segment.read_member(name).model_copy(update={"weights": "random"})
        network_and_loss[name] = (networks.build_segmenter(member), SegmenterLoss(member))
    return network_and_loss


def measure_times(
    model: torch.nn.Module, loss: Callable, arguments: argparse.Namespace, fast: bool
) -> tuple[float, float, float]:
    """Milliseconds an image of a training step, of inference, and of inference in reduced precision.

    model: the network
    loss: of the model and a batch
    arguments: of the command; size, batch and steps are used here
    fast: our way instead of the plain one
    """
    device = select_device()
    model.to(device, memory_format=torch.channels_last if fast else torch.contiguous_format)
    batch = build_noise_batch(arguments.batch, arguments.size)
    batch = move_batch(batch, device) if fast else {key: value.to(device) for key, value in batch.items()}
    optimizer = torch.optim.Adam(model.parameters())

    def train() -> None:
        model.train()
        with autocast(device, fast):
            loss_value = loss(model, batch)
        loss_value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    steps = (
        train,
        lambda: run_inference(model, batch["image"], full_precision(device)),
        lambda: run_inference(model, batch["image"], autocast(device, fast)),
    )
    return tuple(1000 * measure_step_seconds(step, arguments.steps) / arguments.batch for step in steps)


def run_inference(model: torch.nn.Module, images: torch.Tensor, precision: AbstractContextManager) -> None:
    """Run a network on images [batch, 1, size, size] within a context that sets the precision."""
    model.eval()
    with torch.inference_mode(), precision:
        model(images)


def build_noise_batch(batch: int, size: int) -> dict[str, torch.Tensor]:
    """A batch of noise with masks of single pixels; all labels are 1."""
    gray = torch.randint(0, 255, (batch, 1, size, size), dtype=torch.uint8)
    return {"image": gray, "mask": (gray > 250).to(torch.uint8), "label": torch.ones(batch)}


def measure_step_seconds(run_step: Callable[[], None], count: int) -> float:
    """Mean seconds of one step, after one to warm up."""
    run_step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        run_step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


if __name__ == "__main__":
    main()
