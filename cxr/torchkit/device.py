"""Which device a run uses, in which precision, and how batches get there."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch

# Where PyTorch may compute float32 in less: TF32 on GPUs (by default in convolutions), bfloat16 on CPUs if asked for.
REDUCIBLE = (
    torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.mkldnn.conv,
    torch.backends.mkldnn.matmul,
)  # fmt: skip


def device() -> torch.device:
    """The first GPU where there is one, else the CPU. Several GPUs: the launcher gives each unit its own."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def amp_dtype(on: torch.device) -> torch.dtype | None:
    """The reduced precision that is fast on this device, None where there is none.

    bfloat16 on a CPU without instructions for it is slower than float32 (PyTorch emulates it).
    """
    if on.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def autocast(on: torch.device, amp: bool) -> AbstractContextManager:
    """Mixed precision for a training's forward pass, where `amp` is asked for and the device has it."""
    dtype = amp_dtype(on) if amp else None
    return torch.autocast(on.type, dtype) if dtype else nullcontext()


@contextmanager
def full_precision(on: torch.device) -> Iterator[None]:
    """Float32 in every operation, also within an autocast: for what is kept, so that no file depends on the machine."""
    before = [operation.fp32_precision for operation in REDUCIBLE]
    try:
        for operation in REDUCIBLE:
            operation.fp32_precision = "ieee"
        with torch.autocast(on.type, enabled=False):
            yield
    finally:
        for operation, precision in zip(REDUCIBLE, before, strict=True):
            operation.fp32_precision = precision


def seed(*parts: int) -> None:
    """Seed PyTorch by (seed, epoch, step): a step's dropout is then the same in a resumed run."""
    torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))


def move(batch: dict[str, torch.Tensor], on: torch.device) -> dict[str, torch.Tensor]:
    """A batch on the device; images [B, C, H, W] in channels-last order (on CPUs 1.3 to 2 times faster)."""
    return {key: _placed(value, on) if torch.is_tensor(value) else value for key, value in batch.items()}


def _placed(value: torch.Tensor, on: torch.device) -> torch.Tensor:
    value = value.to(on, non_blocking=True)
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
