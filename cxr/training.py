"""Settings of a training, the same for every stage; read by cxr.torchkit.loop."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from cxr.config import Strict


class Training(Strict):
    """How long, how fast and by what a network trains."""

    epochs: PositiveInt
    batch: PositiveInt
    lr: PositiveFloat
    accumulate: PositiveInt = 1
    """Batches whose gradients are summed before one step of the optimizer."""
    optimizer: Literal["adam", "adamw", "nadam", "radam", "sgd"] = "adam"
    weight_decay: float = 0.0
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Rate of a backbone's first layers as a share of the head's; groups between them in equal ratios (fastai)."""
    head_first: NonNegativeInt = 0
    """Epochs in which only what is not the backbone (or encoder) trains, before all of it does."""
    schedule: Literal["constant", "plateau", "cosine", "onecycle", "warmup"] = "constant"
    plateau_factor: float = 0.5
    plateau_patience: int = 1
    """plateau: epochs without a better watched score after which the rate is multiplied by plateau_factor."""
    cycles: PositiveInt = 1
    """cosine: how often the rate falls from lr to lr_min."""
    warmup_epochs: NonNegativeInt = 0
    """warmup: epochs in which the rate rises from lr_start to lr, then stands for hold_epochs, then falls."""
    hold_epochs: NonNegativeInt = 0
    lr_start: PositiveFloat | None = None
    decay: float = Field(default=0.8, gt=0, le=1)
    """warmup: by this, each epoch, down to lr_min."""
    lr_min: float = Field(default=0.0, ge=0)
    """Least rate of cosine and warmup."""
    early_stop: PositiveInt | None = None
    """Epochs without a better watched score after which the training ends."""
    keep: Literal["best", "last", "average"] = "best"
    """Weights to keep: of the best watched epoch, the last ones, or the mean over the `top` best epochs."""
    top: PositiveInt = 3
    ema: float | None = None
    """Decay of the moving average of the weights, which is then what is watched and kept."""
    clip: float | None = None
    """Largest norm of the gradient."""
    clip_value: float | None = None
    """Largest absolute value of any of its elements."""
    epoch_batches: PositiveInt | None = None
    """Most batches of an epoch; all by default."""
    minutes: PositiveFloat | None = None
    """Train for so many minutes of work instead of `epochs`, which then only share out head_first and what slides by
    the epoch; such a training repeats only roughly."""
    amp: bool = True
    """Mixed precision where the device has it: bfloat16 on newer CPUs and GPUs, float16 on older GPUs."""
    workers: int | None = None
    """Processes that load; by default what the machine has, at most 8."""
    checkpoint_minutes: float = 3.0
    seed: int = 1


class HeadConfig(Strict):
    """What turns a backbone's feature map into bottleneck features, and these into one logit.

    tap: the rank-47 solution's: dropout, two 3x3 convolutions, dropout, global pooling, dropout, dense.
    pooled: global pooling of the last feature map, dropout, dense; the features are as wide as the backbone.
    flat: the last feature map as one vector, dense of `width` with ReLU, dropout, dense.
    """

    kind: Literal["tap", "pooled", "flat"] = "tap"
    stride: int = 16
    """tap: stride of the backbone's feature map that is tapped; pooled and flat take the last, of 32."""
    width: PositiveInt = 960
    """tap: channels of both convolutions; tap and flat: length of the bottleneck features."""
    dropout: tuple[float, float, float] = (0.5, 0.5, 0.7)
    """tap: before the convolutions, before the pooling, before the dense layer; pooled and flat: the last alone."""
    pool: Literal["avg", "max"] = "avg"
    """max does not average a small lesion away."""
