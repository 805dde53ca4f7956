"""What `prepare` does with damaged DICOM files: read or refused, in how many seconds and how much memory.

    python -m bench.damaged_dicoms [--files 2000] [--seed 1] [--keep FOLDER]

Every kind of damage (bench/damages.py) is done to every kind of file (bench/small_dicoms.py), in turn, with random
numbers from the seed. Each file is read in a process of its own, whose CPU time and peak memory are measured; then all
of them are prepared as one data folder. The exit code is 0 when all of these hold, else 1: no traceback, no file over
5 s, none of 1 GB or more, every file is in the manifest or in rejected.csv, no file writes into another's row, and no
reason is longer than 200 characters or holds a patient's name.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import damages
from bench.small_dicoms import NAME
from cxr.datasets import kaggle
from prepare import build_dataset
from prepare.letterboxed_arrays import ManifestEntry, PrepareTask, RowFile, prepare_image

SIZE = 64
MAX_SECONDS, MAX_MEGABYTES, MAX_REASON_LENGTH = 5, 1024, 200
MAX_CHILD_TEXT = 4000  # characters that a child process returns
CHILD_TIMEOUT = 120  # seconds after which the child process is stopped


class Outcome(NamedTuple):
    """What happened to one file."""

    damage: str
    file_kind: str
    verdict: str  # read, refused, died or traceback
    reason: str  # of a refusal, or the traceback
    seconds: float  # of CPU
    megabytes: float  # most memory held

    @property
    def fault_description(self) -> str:
        """Which rules the outcome breaks, '' where it breaks none."""
        faults = {
            "a traceback": self.verdict == "traceback", f"over {MAX_SECONDS} s": self.seconds > MAX_SECONDS,
            f"{MAX_MEGABYTES} MB or more": self.megabytes >= MAX_MEGABYTES,
            "a long reason": len(self.reason) > MAX_REASON_LENGTH,
            "a name in its reason": NAME.lower() in self.reason.lower(), "several lines": "\n" in self.reason,
        }  # fmt: skip
        if self.verdict == "traceback":
            return f"a traceback: {self.reason}"
        return ", ".join(name for name, is_broken in faults.items() if is_broken)


def prepare_in_child(task: PrepareTask, damage: str, file_kind: str) -> Outcome:
    """Prepare one file in a process of its own."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(CHILD_TIMEOUT)
        os.close(read_end)
        try:
            result = prepare_image(task)
            verdict, reason = ("read", "") if isinstance(result, ManifestEntry) else ("refused", result)
        except BaseException:
            verdict, reason = "traceback", traceback.format_exc()
        os.write(write_end, json.dumps((verdict, reason[:MAX_CHILD_TEXT])).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        content = pipe.read()
    _, _, usage = os.wait4(child, 0)
    verdict, reason = json.loads(content) if content else ("died", "")
    return Outcome(damage, file_kind, verdict, reason, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def run_trials(folder: Path, contents: Iterable[tuple[str, str, bytes]]) -> Iterator[Outcome]:
    """Write each file (damage, kind, content) into `folder` and prepare it.

    Raises SystemExit where a file was written into a row next to its own.
    """
    (folder / "dicom-images-train").mkdir(parents=True)
    pixels, masks = RowFile(folder / "pixels.npy", (SIZE, SIZE)), RowFile(folder / "masks.npy", (SIZE, SIZE // 8))
    pixels.allocate_file(3)
    masks.allocate_file(1)
    for number, (damage, file_kind, content) in enumerate(contents):
        path = folder / "dicom-images-train" / f"{number:05d}.dcm"
        path.write_bytes(content)
        task = PrepareTask(path.stem, path, None, pixels, 1, masks, -1)
        yield prepare_in_child(task, damage, f"{path.stem} {file_kind}")
    if np.load(pixels.path)[[0, 2]].any():
        raise SystemExit("a file was written over its neighbour's row")


def count_accounted_files(folder: Path, files: int) -> int:
    """How many of the files are in the manifest or in rejected.csv when all are prepared as one folder."""
    rows = "".join(f"{number:05d},-1\n" for number in range(files))
    (folder / "train-rle.csv").write_text("ImageId,EncodedPixels\n" + rows)
    prepared_folder = folder / "prepared"
    prepared_folder.mkdir()
    plan = build_dataset.plan_dataset(kaggle.find_layout(folder))
    counts = build_dataset.write_dataset(plan, prepared_folder, SIZE, None)
    return counts["images"] + counts["rejected"]


def format_outcomes(outcomes: list[Outcome]) -> str:
    """A line for each kind of damage, and one for all."""
    outcomes_by_damage = defaultdict(list)
    for outcome in outcomes:
        outcomes_by_damage[outcome.damage].append(outcome)
    lines = [f"{'damage':24s} files  read refused died tracebacks  slowest     most"]
    for damage, group in [*sorted(outcomes_by_damage.items()), ("all", outcomes)]:
        verdicts = [outcome.verdict for outcome in group]
        counts = [verdicts.count(verdict) for verdict in ("read", "refused", "died", "traceback")]
        slowest, peak_megabytes = max(outcome.seconds for outcome in group), max(outcome.megabytes for outcome in group)
        columns = f"{counts[0]:5d} {counts[1]:7d} {counts[2]:4d} {counts[3]:10d}"
        lines.append(f"{damage:24s} {len(group):5d} {columns} {slowest:6.2f} s {peak_megabytes:5.0f} MB")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.damaged_dicoms", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps the files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)) / "data"
        outcomes = list(run_trials(folder, damages.generate_damaged_files(arguments.files, arguments.seed)))
        accounted_count = count_accounted_files(folder, arguments.files)
    print(format_outcomes(outcomes))
    faults = [
        f"{outcome.file_kind}, {outcome.damage}: {outcome.fault_description}"
        for outcome in outcomes
        if outcome.fault_description
    ]
    print(f"in the manifest or rejected.csv of all together: {accounted_count} of {arguments.files}", end="; ")
    print(f"against the rules: {len(faults)}")
    print(*faults[:20], sep="\n")
    sys.exit(int(bool(faults) or accounted_count != arguments.files))


if __name__ == "__main__":
    main()
