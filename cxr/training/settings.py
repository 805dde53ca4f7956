"""Settings of a training, the same for every stage; read by cxr.torchkit.loop."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cxr.config import StrictModel


class Training(StrictModel):
    """How long, how fast and by what a network trains."""

    epochs: PositiveInt
    batch: PositiveInt
    lr: PositiveFloat
    accumulate: PositiveInt = 1
    """Batches whose gradients are summed before one step of the optimizer."""
    optimizer: Literal["adam", "adamw", "nadam", "radam", "sgd"] = "adam"
    """As in PyTorch; sgd has a momentum of .9."""
    weight_decay: NonNegativeFloat = 0.0
    """Of adamw apart from the gradient, of the others added to it."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Rate of a backbone's first layers as a share of the head's; groups between them in equal ratios (fastai)."""
    head_first: NonNegativeInt = 0
    """Epochs in which only what is not the backbone (or encoder) trains, before all of it does."""
    schedule: Literal["constant", "plateau", "cosine", "onecycle", "warmup"] = "constant"
    """How the rate goes on from lr."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: NonNegativeInt = 1
    """plateau: epochs without a better watched score that are let pass; one more, and the rate is multiplied by
    plateau_factor. PyTorch counts so; Keras's patience is one more."""
    cycles: PositiveInt = 1
    """cosine: how often the rate falls from lr to lr_min."""
    warmup_epochs: NonNegativeInt = 0
    lr_start: PositiveFloat | None = None
    """warmup: epochs in which the rate rises from lr_start to lr."""
    hold_epochs: NonNegativeInt = 0
    """warmup: epochs in which it then stands there."""
    decay: float = Field(default=0.8, gt=0, le=1)
    """warmup: by this, each epoch after these, down to lr_min."""
    lr_min: NonNegativeFloat = 0.0
    """Least rate of plateau, cosine and warmup."""
    early_stop: PositiveInt | None = None
    """Epochs without a better watched score after which the training ends."""
    keep: Literal["best", "last", "average"] = "best"
    """Weights to keep: of the best watched epoch, the last ones, or the mean over the `top` best epochs."""
    top: PositiveInt = 3
    """average: how many."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of the moving average of the weights, which is then what is watched and kept."""
    clip: PositiveFloat | None = None
    """Largest norm of the gradient."""
    clip_value: PositiveFloat | None = None
    """Largest absolute value of any of its elements."""
    epoch_batches: PositiveInt | None = None
    """Most batches of an epoch; all by default."""
    minutes: PositiveFloat | None = None
    """Train for so many minutes of work instead of `epochs`, which then only share out head_first and what slides by
    the epoch; such a training repeats only roughly."""
    amp: bool = True
    """Mixed precision where the device has it: bfloat16 on newer CPUs and GPUs, float16 on older GPUs."""
    workers: NonNegativeInt | None = None
    """Processes that load; by default what the machine has, at most 8."""
    checkpoint_minutes: NonNegativeFloat = 3.0
    seed: int = 1

    @property
    def uses_validation(self) -> bool:
        """Whether a validation score decides anything: the rate, the end, or which epochs' weights are kept.

        A fixed schedule whose last weights are kept chooses nothing, and trains on all patients of the training folds.
        """
        return self.schedule == "plateau" or self.early_stop is not None or self.keep != "last"

    @model_validator(mode="after")
    def _check_unused_settings(self) -> "Training":
        for key, schedules in SCHEDULES_BY_SETTING.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.schedule not in schedules:
                raise ValueError(f"{key}: schedule: {self.schedule} does not have it, {' and '.join(schedules)} do")
        if self.warmup_epochs and self.lr_start is None:
            raise ValueError("warmup_epochs: needs lr_start, the rate to rise from")
        if self.top != 3 and self.keep != "average":
            raise ValueError(f"top: keep: {self.keep} does not have it, average does")
        return self


# Settings that change no result, so that another value makes no training stale.
SETTINGS_WITHOUT_EFFECT = ("workers", "checkpoint_minutes")
# Settings that only some schedules read.
SCHEDULES_BY_SETTING = {
    "plateau_factor": ["plateau"], "plateau_patience": ["plateau"], "cycles": ["cosine"],
    "warmup_epochs": ["warmup"], "lr_start": ["warmup"], "hold_epochs": ["warmup"], "decay": ["warmup"],
    "lr_min": ["plateau", "cosine", "warmup"],
}  # fmt: skip


class HeadConfig(StrictModel):
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
