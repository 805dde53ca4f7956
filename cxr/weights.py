"""Where a file of start weights lies."""

import os
from pathlib import Path

from cxr.errors import UsageError
from cxr.paths import ROOT, as_meant


def find(name: str) -> Path:
    """File of the start weights `name`: in the folder WEIGHTS, then in the project's weights/."""
    path = look_up(name)
    if path is None:
        where = os.environ.get("WEIGHTS")
        raise UsageError(
            f"weights '{name}' are not in {where or 'the folder WEIGHTS (not set)'} nor in {ROOT / 'weights'}; "
            f"expected {name}.safetensors (a recipe's line 'weights: imagenet' asks timm's hub instead)"
        )
    return path


def look_up(name: str) -> Path | None:
    """As `find`, but None where there is no such file."""
    given = os.environ.get("WEIGHTS")
    folders = ([as_meant(given)] if given else []) + [ROOT / "weights"]
    candidates = [folder / f"{name}.safetensors" for folder in folders]
    return next((path for path in candidates if path.is_file()), None)
