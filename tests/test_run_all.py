"""run_all.sh as a whole on a few small phantoms: from another folder, with spaces in the paths, twice."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cxr.paths import ROOT

SMALL = ("--train", "24", "--test", "8", "--size", "256", "--positive-share", "0.5")
STEPS = ("phantoms", "prepare", "plan", "stage 0", "stage 1", "stage 2", "stage 3")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("with space")


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    """A dozen patients, half of the images with a pneumothorax."""
    folder = place / "a few"
    subprocess.run([sys.executable, "-m", "phantom.make", str(folder), *SMALL], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def runs(place: Path, data: Path) -> list[tuple[subprocess.CompletedProcess, float]]:
    """Two runs one after the other, and how long each took."""
    return [run_all(place, data), run_all(place, data)]


def run_all(place: Path, data: Path, recipe: str = "smoke") -> tuple[subprocess.CompletedProcess, float]:
    """Call run_all.sh from `place`, in this Python's environment."""
    variables = {"CXR_HOME": str(place / "home"), "DATA": str(data), "VIRTUAL_ENV": sys.prefix, "CXR_WORKERS": "0"}
    environment = {key: value for key, value in os.environ.items() if key not in ("RECIPE", "WEIGHTS", "FORCE")}
    start = time.monotonic()
    done = subprocess.run(
        ["bash", str(ROOT / "run_all.sh"), recipe], cwd=place, env=environment | variables,
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done, time.monotonic() - start


def test_it_runs_to_the_end(runs):
    done, _ = runs[0]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to run" in done.stdout
    assert done.stdout.rstrip().endswith("Research use only: not a medical device.")


def test_the_submission_is_valid(runs, place, data):
    with open(place / "home" / "artifacts" / data.name / "smoke" / "submission" / "submission.csv") as file:
        rows = list(csv.reader(file))
    assert [name.strip() for name in rows[0]] == ["ImageId", "EncodedPixels"]
    assert len({row[0] for row in rows[1:]}) == len(rows) - 1 == 8
    for _, code in rows[1:]:
        numbers = [int(part) for part in code.split()]
        assert numbers == [-1] or (len(numbers) % 2 == 0 and sum(numbers) <= 256 * 256)


def test_the_second_run_is_up_to_date_in_every_step_within_20_seconds(runs):
    done, seconds = runs[1]
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    for step in STEPS[1:]:
        step_lines = [line for line in lines if line.startswith(step)]
        assert step_lines, f"{step} says nothing"
        assert all("up to date" in line for line in step_lines), step_lines
    assert seconds < 20


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_what_a_run_on_phantoms_writes_is_no_change_to_a_clone(runs, place, data):
    """Without CXR_HOME, git would ignore every file that a run writes."""
    home = place / "home"
    files = [str(path.relative_to(home)).replace(data.name, "phantom") for path in home.rglob("*") if path.is_file()]
    assert "boundingbox_csv/phantom.csv" in files
    command = ["git", "-C", str(ROOT), "check-ignore", "-z", "--stdin"]
    done = subprocess.run(command, input="\0".join(files), capture_output=True, text=True, check=False)
    assert set(files) - set(done.stdout.split("\0")) == set()


def test_bad_data_and_wrong_usage_end_with_their_codes(place):
    (place / "empty").mkdir()
    (place / "empty" / "train-rle.csv").write_text("ImageId,EncodedPixels\n")
    empty = run_all(place, place / "empty")[0]
    assert empty.returncode == 3
    assert "datatools.doctor" in empty.stderr  # that lists all that is wrong, not the first alone
    assert run_all(place, place / "nowhere")[0].returncode == 2
    assert run_all(place, place / "empty", "smoek")[0].returncode == 2
