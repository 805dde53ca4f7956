"""Which device a run uses, in which precision, and how batches get there."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch

# Where PyTorch may compute float32 in less: TF32 on GPUs (by default in convolutions), bfloat16 on CPUs if asked for.
REDUCIBLE_OPERATIONS = (
    torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.mkldnn.conv,
    torch.backends.mkldnn.matmul,
)  # fmt: skip


def select_device() -> torch.device:
    """The first GPU where there is one, else the CPU. Several GPUs: the launcher gives each unit its own."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def amp_dtype(device: torch.device) -> torch.dtype | None:
    """The reduced precision that is fast on this device, None where there is none.

    bfloat16 on a CPU without instructions for it is slower than float32 (PyTorch emulates it).
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def autocast(device: torch.device, amp: bool) -> AbstractContextManager:
    """Mixed precision for a training's forward pass, where `amp` is asked for and the device has it."""
    dtype = amp_dtype(device) if amp else None
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Float32 in every operation, also within an autocast: for what is kept, so that no file depends on the machine."""
    precisions = [operation.fp32_precision for operation in REDUCIBLE_OPERATIONS]
    try:
        for operation in REDUCIBLE_OPERATIONS:
            operation.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for operation, precision in zip(REDUCIBLE_OPERATIONS, precisions, strict=True):
            operation.fp32_precision = precision


def seed_torch(*parts: int) -> None:
    """Seed PyTorch by (seed, epoch, step): a step's dropout is then the same in a resumed run."""
    torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))


def move_batch(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch on the device; images [B, C, H, W] in channels-last order (on CPUs 1.3 to 2 times faster)."""
    return {key: _move_tensor(value, device) if torch.is_tensor(value) else value for key, value in batch.items()}


def _move_tensor(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    value = value.to(device, non_blocking=True)
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
