"""Training and inference speed of the small networks: our loop's way against the plain one, in one run.

python -m bench.training_speed [--size 256] [--batch 8] [--steps 6]
Ours: channels-last, and the device's reduced precision in training (cxr.torchkit.device). Plain: NCHW, float32.
Inference is float32 in both, as what it says is kept; 'reduced' is what it would take in training's precision.
"""

import argparse
import time
from contextlib import AbstractContextManager

import torch

from cxr.torchkit.device import autocast, device, full_precision, move
from stage1_classify import config as classify
from stage1_classify import timm_backend
from stage2_segment import config as segment
from stage2_segment import models
from stage2_segment.losses import SegmenterLoss


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.training_speed")
    for name, value in {"size": 256, "batch": 8, "steps": 6}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    print(f"{device()}, {asked.size} x {asked.size}, batch {asked.batch}: milliseconds an image, train / infer")
    for name, (model, loss) in networks().items():
        (*ours, reduced), (*plain, _) = (measure(model, loss, asked, fast) for fast in (True, False))
        ratios = " / ".join(f"{slow / fast:.1f}" for fast, slow in zip(ours, plain, strict=True))
        print(
            f"{name:18} ours {ours[0]:6.1f} / {ours[1]:5.1f} (reduced {reduced:5.1f})   "
            f"plain {plain[0]:6.1f} / {plain[1]:5.1f}   x {ratios}"
        )


def networks() -> dict:
    """The small recipes' networks and their losses, from random weights."""
    found = {}
    member = classify.read("mnv2_crop").model_copy(update={"weights": "random"})
    found["mnv2_crop"] = (timm_backend.build(member), timm_backend._loss(member, device()))
    for name in ("unet_mnv2_crop", "unetpp_mnv2_full"):
        member = segment.read(name).model_copy(update={"weights": "random"})
        found[name] = (models.build(member), SegmenterLoss(member))
    return found


def measure(model, loss, asked, fast: bool) -> tuple[float, float, float]:
    """Milliseconds an image of a training step, of inference, and of it in reduced precision, after one to warm up."""
    on = device()
    model.to(on, memory_format=torch.channels_last if fast else torch.contiguous_format)
    batch = example(asked.batch, asked.size)
    batch = move(batch, on) if fast else {key: value.to(on) for key, value in batch.items()}
    optimizer = torch.optim.Adam(model.parameters())

    def train() -> None:
        model.train()
        with autocast(on, fast):
            value = loss(model, batch)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer(precision: AbstractContextManager) -> None:
        model.eval()
        with torch.inference_mode(), precision:
            model(batch["image"])

    steps = (train, lambda: infer(full_precision(on)), lambda: infer(autocast(on, fast)))
    return tuple(1000 * seconds(step, asked.steps) / asked.batch for step in steps)


def example(batch: int, size: int) -> dict[str, torch.Tensor]:
    """A batch of noise."""
    gray = torch.randint(0, 255, (batch, 1, size, size), dtype=torch.uint8)
    return {"image": gray, "mask": (gray > 250).to(torch.uint8), "label": torch.ones(batch)}


def seconds(step, count: int) -> float:
    """Mean time of one step."""
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


if __name__ == "__main__":
    main()
