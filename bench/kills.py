"""Does a run that is killed at random moments, and started again each time, end with the files of an unbroken run?

python -m bench.kills [--kills 20] [--seed 1] [--recipe smoke] [--workers 1] [--home FOLDER]

Every kill is a SIGKILL to the run's process group, its loader processes included. The bytes of submission.csv,
stacked.parquet, decision.json, the boxes and all weights are compared. Exit code 1 where one differs.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr.errors import UsageError, run_main
from cxr.paths import ROOT

COMPARED = (
    "submission.csv", "stacked.parquet", "decision.json", "boxes.csv", "*.safetensors", "maps.npy", "features.npz",
)  # fmt: skip
PHANTOMS = ("--train", "24", "--test", "8", "--size", "256", "--positive-share", "0.5")


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--recipe", default="smoke")
    parser.add_argument("--workers", type=int, default=1, help="loader processes of each training")
    parser.add_argument("--home", type=Path, help="keep both runs there")
    arguments = parser.parse_args()
    if arguments.home:
        compare_runs(arguments.home.resolve(), arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare_runs(Path(folder), arguments)


def compare_runs(home: Path, arguments: argparse.Namespace) -> None:
    """Run once unbroken and once with kills in `home`; UsageError where the runs end with different files."""
    data = home / "phantoms"
    if not data.is_dir():
        subprocess.run([sys.executable, "-m", "phantom.make", str(data), *PHANTOMS], cwd=ROOT, check=True)
    start = time.monotonic()
    wait_for_run(start_run(home / "unbroken", data, arguments))
    seconds = time.monotonic() - start
    kills = run_with_kills(home / "killed", data, seconds, arguments)
    unbroken_digests, killed_digests = (read_digests(home / name) for name in ("unbroken", "killed"))
    differing_files = sorted(
        name
        for name in unbroken_digests.keys() | killed_digests.keys()
        if unbroken_digests.get(name) != killed_digests.get(name)
    )
    print(
        f"unbroken {seconds:.0f} s; {kills} kills; {len(unbroken_digests)} files compared, "
        f"{len(differing_files)} differ"
    )
    if differing_files:
        raise UsageError(f"not as in the unbroken run: {', '.join(differing_files)}")


def run_with_kills(home: Path, data: Path, seconds: float, arguments: argparse.Namespace) -> int:
    """Start a run and kill it, again and again, until it has ended or been killed often enough; then let it end.

    home: folder of the run
    data: the phantoms
    seconds: that an unbroken run took
    arguments: of the command; kills and seed are used here
    Returns the number of kills. Raises UsageError where the run fails by itself.
    """
    rng = random.Random(arguments.seed)
    for kills in range(arguments.kills):
        process = start_run(home, data, arguments)
        # A run that is started again repeats what was unfinished; a quarter of a whole run is enough to get further.
        try:
            process.wait(rng.uniform(2, max(seconds / 4, 6)))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            continue
        wait_for_run(process)
        return kills
    wait_for_run(start_run(home, data, arguments))
    return arguments.kills


def start_run(home: Path, data: Path, arguments: argparse.Namespace) -> subprocess.Popen:
    """Start run_all.sh in a process group of its own."""
    run_variables = {"CXR_HOME": str(home), "DATA": str(data), "VIRTUAL_ENV": sys.prefix}
    run_variables["CXR_WORKERS"] = str(arguments.workers)
    environment = {key: value for key, value in os.environ.items() if key not in ("RECIPE", "FORCE", "SMOKE")}
    return subprocess.Popen(
        ["bash", str(ROOT / "run_all.sh"), arguments.recipe], env=environment | run_variables, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for_run(process: subprocess.Popen) -> None:
    """Wait until a run has ended; UsageError where it failed."""
    if process.wait():
        raise UsageError(f"run_all.sh ended with exit code {process.returncode}; run it by hand to see why")


def read_digests(home: Path) -> dict[str, str]:
    """SHA-256 of the files to compare, by their path in `home`."""
    files = sorted(path for pattern in COMPARED for path in (home / "artifacts").rglob(pattern))
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    run_main(main)
