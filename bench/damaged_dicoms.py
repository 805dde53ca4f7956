"""Damaged DICOM files through prepare's own function: each is read or refused in one line, soon and in little memory.

    python -m bench.damaged_dicoms [--files 2000] [--seed 1] [--keep FOLDER]

Every kind of damage (bench/damages.py) to every kind of file, in turn, with numbers drawn from the seed. Each file is
read in a process of its own, whose processor time and peak memory are measured; at last all are prepared as one data
folder. Exit code 1 where one of these does not hold: no traceback, no file over 5 s, none of 1 GB or more, every file
in manifest or rejected.csv, no row but its own written, no reason over 200 characters or with a patient's name.
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
from cxr import intake, kaggle
from cxr.canvases import Facts, Rows, Task, prepare_image

SIZE = 64
MOST_SECONDS, MOST_MB, LONGEST = 5, 1024, 200
MOST_TEXT = 4000  # characters that a child hands over
ENDLESS = 120  # seconds of a file before it is given up


class Outcome(NamedTuple):
    """What became of one file; word: read, refused, died or traceback."""

    kind: str
    base: str
    word: str
    text: str
    seconds: float
    megabytes: float

    @property
    def fault(self) -> str:
        """What is not as it must be, '' for nothing."""
        faults = {
            "a traceback": self.word == "traceback", f"over {MOST_SECONDS} s": self.seconds > MOST_SECONDS,
            f"{MOST_MB} MB or more": self.megabytes >= MOST_MB, "a long reason": len(self.text) > LONGEST,
            "a name in its reason": NAME.lower() in self.text.lower(), "several lines": "\n" in self.text,
        }  # fmt: skip
        if self.word == "traceback":
            return f"a traceback: {self.text}"
        return ", ".join(name for name, is_so in faults.items() if is_so)


def read(task: Task, kind: str, base: str) -> Outcome:
    """Prepare one file in a process of its own."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(ENDLESS)
        os.close(ours)
        try:
            result = prepare_image(task)
            word, text = ("read", "") if isinstance(result, Facts) else ("refused", result)
        except BaseException:
            word, text = "traceback", traceback.format_exc()
        os.write(theirs, json.dumps((word, text[:MOST_TEXT])).encode())
        os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        content = pipe.read()
    _, _, usage = os.wait4(child, 0)
    word, text = json.loads(content) if content else ("died", "")
    return Outcome(kind, base, word, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def trials(folder: Path, contents: Iterable[tuple[str, str, bytes]]) -> Iterator[Outcome]:
    """Write and read files (damage, kind, content) in `folder`; the rows beside the one written stay as they are."""
    (folder / "dicom-images-train").mkdir(parents=True)
    pixels, masks = Rows(folder / "pixels.npy", (SIZE, SIZE)), Rows(folder / "masks.npy", (SIZE, SIZE // 8))
    pixels.create(3)
    masks.create(1)
    for number, (kind, base, content) in enumerate(contents):
        path = folder / "dicom-images-train" / f"{number:05d}.dcm"
        path.write_bytes(content)
        yield read(Task(path.stem, path, None, pixels, 1, masks, -1), kind, base)._replace(base=f"{path.stem} {base}")
    if np.load(pixels.path)[[0, 2]].any():
        raise SystemExit("a file was written over its neighbour's row")


def prepared(folder: Path, files: int) -> int:
    """How many of the files are in the manifest or in rejected.csv when all are prepared as one folder."""
    rows = "".join(f"{number:05d},-1\n" for number in range(files))
    (folder / "train-rle.csv").write_text("ImageId,EncodedPixels\n" + rows)
    out = folder / "prepared"
    out.mkdir()
    counts = intake.run(intake.plan(kaggle.find(folder)), out, SIZE, None)
    return counts["images"] + counts["rejected"]


def report(outcomes: list[Outcome]) -> str:
    """A line for each kind of damage, and one for all."""
    kinds = defaultdict(list)
    for each in outcomes:
        kinds[each.kind].append(each)
    lines = [f"{'damage':24s} files  read refused died tracebacks  slowest     most"]
    for kind, group in [*sorted(kinds.items()), ("all", outcomes)]:
        counts = [sum(each.word == word for each in group) for word in ("read", "refused", "died", "traceback")]
        slowest, most = max(each.seconds for each in group), max(each.megabytes for each in group)
        columns = f"{counts[0]:5d} {counts[1]:7d} {counts[2]:4d} {counts[3]:10d}"
        lines.append(f"{kind:24s} {len(group):5d} {columns} {slowest:6.2f} s {most:5.0f} MB")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.damaged_dicoms")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps the files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.keep or Path(temporary)) / "data"
        outcomes = list(trials(folder, damages.damaged(given.files, given.seed)))
        accounted = prepared(folder, given.files)
    print(report(outcomes))
    faults = [f"{each.base}, {each.kind}: {each.fault}" for each in outcomes if each.fault]
    print(f"accounted for by prepare as a whole: {accounted} of {given.files}; against the rules: {len(faults)}")
    print(*faults[:20], sep="\n")
    sys.exit(int(bool(faults) or accounted != given.files))


if __name__ == "__main__":
    main()
