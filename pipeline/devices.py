"""List the GPUs without importing a framework."""

import os
import subprocess
from functools import cache


@cache
def list_gpus() -> dict[str, str]:
    """Name of each usable GPU by its key in CUDA_VISIBLE_DEVICES; empty where there is none."""
    names = _list_installed_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not names or visible is None:
        return names
    keys = [key.strip() for key in visible.split(",")]
    visible_count = next((n for n, key in enumerate(keys) if key in ("", "-1")), len(keys))  # CUDA ignores what follows
    return {key: names.get(key, "GPU") for key in keys[:visible_count]}


def describe_devices() -> str:
    """The devices in words: '2 x NVIDIA H100' or 'CPU, 16 cores (no GPU found)'."""
    gpu_names = list(list_gpus().values())
    return f"{len(gpu_names)} x {gpu_names[0]}" if gpu_names else f"CPU, {os.cpu_count()} cores (no GPU found)"


def _list_installed_gpus() -> dict[str, str]:
    """Names of the GPUs that the driver lists, by number."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = [line for line in listing.splitlines() if line.startswith("GPU ")]
    return {str(number): _parse_gpu_name(line) for number, line in enumerate(lines)}


def _parse_gpu_name(line: str) -> str:
    """'GPU 0: NVIDIA H100 (UUID: GPU-…)' -> 'NVIDIA H100'."""
    return line.partition(": ")[2].partition(" (UUID")[0]
