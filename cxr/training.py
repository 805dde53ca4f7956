"""Settings of a training, the same for every stage; read by cxr.torchkit.loop."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from cxr.config import Strict


class Training(Strict):
    """How long, how fast and by what a network trains."""

    epochs: PositiveInt
    batch: PositiveInt
    lr: PositiveFloat
    accumulate: PositiveInt = 1
    """Batches whose gradients are summed before one step of the optimizer."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    schedule: Literal["constant", "plateau", "cosine", "onecycle"] = "constant"
    plateau_factor: float = 0.5
    plateau_patience: int = 1
    """plateau: epochs without a better watched score after which the rate is multiplied by plateau_factor."""
    early_stop: PositiveInt | None = None
    """Epochs without a better watched score after which the training ends."""
    keep: Literal["best", "last"] = "best"
    """Weights to keep: of the best watched epoch, or the last ones."""
    ema: float | None = None
    """Decay of the moving average of the weights, which is then what is watched and kept."""
    clip: float | None = None
    """Largest norm of the gradient."""
    amp: bool = True
    """Mixed precision where the device has it: bfloat16 on newer CPUs and GPUs, float16 on older GPUs."""
    workers: int | None = None
    """Processes that load; by default what the machine has, at most 8."""
    checkpoint_minutes: float = 3.0
    seed: int = 1


class HeadConfig(Strict):
    """Tap-and-head of the rank-47 solution: dropout, two 3x3 convolutions, dropout, global pooling, dropout, dense."""

    stride: int = 16
    """Stride of the backbone's feature map that is tapped."""
    width: int = 960
    """Channels of both convolutions, and length of the bottleneck features."""
    dropout: tuple[float, float, float] = (0.5, 0.5, 0.7)
    """Before the convolutions, before the pooling, before the dense layer."""
    pool: Literal["avg", "max"] = "avg"
    """max does not average a small lesion away."""
