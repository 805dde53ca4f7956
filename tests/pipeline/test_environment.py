"""The environment that run_all.sh and run_tests.sh set up, in a copy of the project whose lock is empty."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.paths import ROOT
from pipeline import installed

SHOW = '. "{project}/pipeline/environment.sh"; python -c "import sys; print(sys.prefix)"'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that needs no packages, in a folder with a space in its name."""
    folder = tmp_path / "the project"
    (folder / "pipeline").mkdir(parents=True)
    for name in ("environment.sh", "installed.py", "__init__.py"):
        shutil.copy(ROOT / "pipeline" / name, folder / "pipeline" / name)
    (folder / "requirements.lock").write_text("# nothing\n")
    return folder


def source(project: Path, **variables: str) -> subprocess.CompletedProcess:
    """Source environment.sh from elsewhere; prints the prefix of the Python that it leaves."""
    hidden = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | variables
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SHOW.format(project=project)], cwd="/", env=environment,
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_its_own_environment_is_made_once_and_repaired(project):
    (project / "requirements.lock").write_text("./no-such-package.whl\n")
    broken = source(project)
    assert broken.returncode == 1
    assert "making the project's own environment" in broken.stderr
    assert "the same command tries again" in broken.stderr
    (project / ".venv" / "left_over").touch()
    (project / "requirements.lock").write_text("# nothing\n")
    repaired = source(project)
    assert repaired.returncode == 0, repaired.stderr
    assert Path(repaired.stdout.strip()) == project / ".venv"
    assert not (project / ".venv" / "left_over").exists()
    assert source(project).stderr == ""


def test_another_lock_is_installed_into_the_environment_that_is_there(project):
    make_own(project)
    (project / "requirements.lock").write_text("# another lock\n")
    assert "installing the packages" in source(project).stderr
    assert "making" not in source(project).stderr


def make_own(project: Path) -> None:
    """A complete .venv; without pip it is made in no time."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True)
    shutil.copy(project / "requirements.lock", project / ".venv" / "complete")


def test_an_active_environment_is_used_as_it_is(project):
    done = source(project, VIRTUAL_ENV=sys.prefix)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == Path(sys.prefix)
    assert not (project / ".venv").exists()


def test_a_conda_environment_is_used_but_not_its_base(project, tmp_path):
    conda = tmp_path / "conda"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(conda)], check=True)
    used = source(project, CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV="mine")
    assert Path(used.stdout.strip()) == conda
    make_own(project)
    base = source(project, CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV="base")
    assert Path(base.stdout.strip()) == project / ".venv"


def test_without_a_fitting_python_it_says_so(project, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cmp", "flock"):
        if where := shutil.which(name):
            (tools / name).symlink_to(where)
    done = source(project, PATH=str(tools))
    assert done.returncode != 0
    assert "Python 3.11 or 3.12 is needed" in done.stderr
    assert not (project / ".venv" / "complete").exists()


def test_a_project_that_may_not_be_written_uses_what_is_there_or_says_so(project):
    make_own(project)
    project.chmod(0o555)
    if os.access(project, os.W_OK):
        pytest.skip("root may write anywhere")
    assert (source(project).returncode, source(project).stderr) == (0, "")
    (project / ".venv" / "complete").write_text("# another lock\n")
    done = source(project)
    project.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {project} may not be written: activate an environment")
    assert done.stderr.count("\n") == 1


def test_what_differs_from_the_lock_is_named():
    wanted = installed.parse_pins('numpy==0.1\nno-such-thing==1.0\npytest==1 ; sys_platform == "never"\n# note\n')
    assert set(wanted) == {"numpy", "no-such-thing"}
    assert [line.split()[0] for line in installed.find_differences(wanted)] == ["numpy", "no-such-thing"]
    assert installed.find_differences({}) == []


def test_a_local_build_is_no_difference(monkeypatch):
    monkeypatch.setattr(installed, "version", lambda name: "2.14.0+cpu")
    assert installed.find_differences({"torch": "2.14.0"}) == []
