"""The project as git hands it out: scripts run on any system, and what a run writes is no change to it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cxr import runs
from cxr.paths import ROOT, Paths

HANDED_OUT = (
    ".gitattributes", "run_all.sh", "pipeline/environment.sh", ".ci/run", "stage0_bbox/run.sh", "recipes/smoke.yaml",
    "requirements.lock", "docs/result.jpg", "weights/phantom_mnv2.safetensors",
)  # fmt: skip


def git(folder: Path, *arguments: str, given: str | None = None) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    command = ["git", *identity, "-C", str(folder), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def not_ignored(paths: list[str]) -> list[str]:
    """Of paths in the project those that `git status` would list or call changed."""
    ignored = git(ROOT, "check-ignore", "--stdin", given="\n".join(paths)).splitlines()
    return sorted(set(paths) - set(ignored))


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_clone_by_git_for_windows_has_the_same_bytes(tmp_path):
    """Its core.autocrlf gives text CRLF, with which bash runs no script (cloned on Windows, run in WSL or Docker)."""
    source, clone = tmp_path / "source", tmp_path / "clone"
    for name in HANDED_OUT:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    git(source, "init", "--quiet")
    git(source, "add", ".")
    git(source, "commit", "--quiet", "-m", "all")
    git(tmp_path, "clone", "--quiet", "-c", "core.autocrlf=true", str(source), str(clone))
    assert [name for name in HANDED_OUT if (clone / name).read_bytes() != (ROOT / name).read_bytes()] == []


@pytest.mark.skipif(not runs.git_commit(), reason="no git checkout")
@pytest.mark.parametrize("dataset", ["phantom", "data", "example", "README"])
def test_boxes_and_labels_that_lie_beside_the_example_are_no_change(dataset, monkeypatch):
    monkeypatch.delenv("CXR_HOME")
    paths = Paths(Path("/any") / dataset, "phantom", 384)
    written = [
        paths.boxes_csv,
        paths.boxes_csv.with_suffix(".jpg"),
        paths.boxes_csv.with_name(f".{dataset}.written.csv"),
    ]
    written += [paths.run_folder / "run.json", paths.boxes_csv.with_name("original_boundingbox.csv")]
    assert not_ignored([str(path.relative_to(ROOT)) for path in written]) == []


@pytest.mark.skipif(not runs.git_commit(), reason="no git checkout")
def test_what_is_handed_out_is_not_ignored():
    assert git(ROOT, "ls-files", "--cached", "--ignored", "--exclude-standard") == ""
