"""Where a file of start weights lies."""

import os
from pathlib import Path

from cxr.errors import UsageError
from cxr.paths import ROOT, as_meant

TORCH, KERAS = (".safetensors",), (".keras", ".h5")


def find(name: str, kinds: tuple[str, ...] = TORCH) -> Path:
    """File of the start weights `name`: in the folder WEIGHTS, then in the project's weights/."""
    path = look_up(name, kinds)
    if path is None:
        where = os.environ.get("WEIGHTS")
        files = " or ".join(f"{name}{kind}" for kind in kinds)
        raise UsageError(
            f"weights '{name}' are not in {where or 'the folder WEIGHTS (not set)'} nor in {ROOT / 'weights'}; "
            f"expected {files} (a recipe's line 'weights: imagenet' asks the hub instead)"
        )
    return path


def look_up(name: str, kinds: tuple[str, ...] = TORCH) -> Path | None:
    """As `find`, but None where there is no such file."""
    given = os.environ.get("WEIGHTS")
    folders = ([as_meant(given)] if given else []) + [ROOT / "weights"]
    candidates = [folder / f"{name}{kind}" for folder in folders for kind in kinds]
    return next((path for path in candidates if path.is_file()), None)
