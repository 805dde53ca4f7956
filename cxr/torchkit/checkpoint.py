"""Checkpoints and weights on disk: written beside, then renamed; no pickled code is ever loaded."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from cxr.files import write_atomically


def save_state(path: Path, state: dict) -> None:
    """Write a training's whole state in one step."""
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state | {"torch": str(torch.__version__)}, file)
        except RuntimeError as error:  # of PyTorch's zip writer, where the file could not be written
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_state(path: Path, identity: str) -> dict | None:
    """The state of an interrupted training with this identity; None where there is none, or it is another's.

    'torch' in it is the version that saved it: another one trains otherwise, and starts anew.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a file damaged from outside raises many kinds: training starts anew
        return None
    return state if state.get("identity") == identity else None


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write tensors as safetensors in one step."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(save({key: value.detach().cpu().contiguous() for key, value in weights.items()}))


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, on the CPU, half precision widened to float32."""
    return {key: v.float() if v.dtype == torch.float16 else v for key, v in load_file(path).items()}
