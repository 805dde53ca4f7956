"""Pack trained start networks into one file of half-precision tensors: encoder, label head and decoders.

python -m weights.pack OUT.safetensors RUN_FOLDER...   (a run folder holds weights.safetensors and run.json)
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_atomically

# Prefixes of a Segmenter's tensors, which decide where they go in the pack.
ENCODER_PREFIX = "net.encoder.model."
HEAD_PREFIX = "head."


def main() -> None:
    parser = argparse.ArgumentParser(prog="weights.pack")
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="the first gives the encoder and the label head")
    arguments = parser.parse_args()
    tensors: dict[str, np.ndarray] = {}
    for folder in arguments.runs:
        tensors = pack_tensors(folder) | tensors
    with write_atomically(arguments.out) as temporary:
        temporary.write_bytes(save(tensors))
    print(f"{arguments.out}: {len(tensors)} tensors, {arguments.out.stat().st_size / 1e6:.2f} MB")


def pack_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Tensors of one run under the names that cxr.torchkit.weights expects, without counters.

    Raises UsageError where the folder holds no finished run.
    """
    record = read_json(folder / "run.json")
    if record is None:
        raise UsageError(f"{folder} holds no finished run (run.json)")
    architecture = record["config"]["member"]["architecture"]
    tensors = load_file(folder / "weights.safetensors")
    float_tensors = {key: value for key, value in tensors.items() if value.dtype.kind == "f"}
    return {_rename_tensor(key, architecture): _halve_precision(key, value) for key, value in float_tensors.items()}


def _rename_tensor(key: str, architecture: str) -> str:
    if key.startswith(ENCODER_PREFIX):
        return "encoder." + key.removeprefix(ENCODER_PREFIX)
    if key.startswith(HEAD_PREFIX):
        return key
    return f"decoder.{architecture}." + key.removeprefix("net.")


def _halve_precision(key: str, value: np.ndarray) -> np.ndarray:
    """Half precision, except for batch norm's variances: those of dead channels would become 0."""
    return value.astype(np.float32 if key.endswith("running_var") else np.float16)


if __name__ == "__main__":
    run_main(main)
