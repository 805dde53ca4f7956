"""Pack trained start networks into one file of half-precision tensors: encoder, label head and decoders.

python -m weights.pack OUT.safetensors RUN_FOLDER...   (a run folder holds weights.safetensors and run.json)
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from cxr.errors import UsageError, run_main
from cxr.files import read_json, replacing

# Of a Segmenter's tensors: where they go in the pack, by the prefix they have.
ENCODER = "net.encoder.model."
HEAD = "head."


def main() -> None:
    parser = argparse.ArgumentParser(prog="weights.pack")
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="the first gives the encoder and the label head")
    asked = parser.parse_args()
    tensors: dict[str, np.ndarray] = {}
    for folder in asked.runs:
        tensors = packed(folder) | tensors
    with replacing(asked.out) as temporary:
        temporary.write_bytes(save(tensors))
    print(f"{asked.out}: {len(tensors)} tensors, {asked.out.stat().st_size / 1e6:.2f} MB")


def packed(folder: Path) -> dict[str, np.ndarray]:
    """Tensors of one run under the names that cxr.torchkit.weights expects; counters are left out."""
    record = read_json(folder / "run.json")
    if record is None:
        raise UsageError(f"{folder} holds no finished run (run.json)")
    architecture = record["config"]["member"]["architecture"]
    tensors = load_file(folder / "weights.safetensors")
    kept = {key: value for key, value in tensors.items() if value.dtype.kind == "f"}
    return {_renamed(key, architecture): _halved(key, value) for key, value in kept.items()}


def _renamed(key: str, architecture: str) -> str:
    if key.startswith(ENCODER):
        return "encoder." + key.removeprefix(ENCODER)
    if key.startswith(HEAD):
        return key
    return f"decoder.{architecture}." + key.removeprefix("net.")


def _halved(key: str, value: np.ndarray) -> np.ndarray:
    """Half precision, but for batch norm's variances: those of dead channels would fall to 0."""
    return value.astype(np.float32 if key.endswith("running_var") else np.float16)


if __name__ == "__main__":
    run_main(main)
