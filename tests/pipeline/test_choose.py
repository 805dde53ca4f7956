"""Which recipe and data a run takes, and how a wrong choice is answered."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cxr import recipe
from cxr.errors import UsageError
from cxr.files import read_json
from cxr.paths import ROOT
from pipeline import choose


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No choice in the environment, an empty data/."""
    for name in ("RECIPE", "DATA", "WEIGHTS", "RUN_BEGAN", "SMOKE"):
        monkeypatch.setenv(name, "")  # noted, so that what choose() sets is taken back
    monkeypatch.setenv("INVOKED_FROM", str(tmp_path))
    monkeypatch.setattr(choose, "ROOT", tmp_path / "project")
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "project" / "recipes").symlink_to(ROOT / "recipes")
    return tmp_path


def test_without_data_phantoms_with_their_recipe(capsys):
    settings = choose.choose(None)
    assert settings["DATA"] == str(choose.phantoms())
    assert Path(settings["RECIPE"]).name == "phantom.yaml"
    assert capsys.readouterr().err.startswith("no data in data/: running on phantoms")


def test_a_readme_is_no_data(bare):
    (bare / "project" / "data" / "README.md").write_text("put the data here")
    assert choose.choose_data()[0] == choose.phantoms()


@pytest.mark.parametrize("name", ["deep/er/image.DCM", "train-rle.csv"])
def test_data_in_the_project_is_taken_with_the_full_recipe(bare, name):
    file = bare / "project" / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    settings = choose.choose(None)
    assert settings["DATA"] == str(bare / "project" / "data")
    assert Path(settings["RECIPE"]).name == "dw_hwang.yaml"


def test_relative_paths_are_meant_from_where_the_command_was_called(bare, monkeypatch):
    (bare / "my data").mkdir()
    monkeypatch.setenv("DATA", "my data")
    monkeypatch.setenv("WEIGHTS", "my weights")
    settings = choose.choose("recipes/real_small.yaml")
    assert settings["DATA"] == str(bare / "my data")
    assert settings["WEIGHTS"] == str(bare / "my weights")


def test_the_phantoms_by_name_are_phantoms(monkeypatch):
    monkeypatch.setenv("DATA", str(choose.phantoms()))
    assert Path(choose.choose(None)["RECIPE"]).name == "phantom.yaml"


@pytest.mark.parametrize("name", ["real_small", "recipes/real_small.yaml", str(ROOT / "recipes" / "real_small.yaml")])
def test_a_recipe_by_name_or_path(name):
    assert choose.choose_recipe(name) == ROOT / "recipes" / "real_small.yaml"


def test_a_recipe_of_the_users_own(bare):
    own = bare / "mine.yaml"
    own.write_text((ROOT / "recipes" / "smoke.yaml").read_text())
    assert choose.choose_recipe("mine.yaml") == own


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean recipes/real_small\.yaml"):
        choose.choose_recipe("recipes/realsmall.yaml")


def test_a_smoke_trial_is_on_phantoms_of_its_own_though_there_is_data(bare, monkeypatch, home):
    (bare / "project" / "data" / "train-rle.csv").touch()
    monkeypatch.setenv("SMOKE", "1")
    settings = choose.choose("recipes/nguyen.yaml")
    assert settings["DATA"] == str(home / "artifacts" / "generated" / "smoke")
    assert settings["SMOKE"] == "1"
    found = recipe.read(Path(settings["RECIPE"]))
    assert (found.name, found.folds, found.prepared_size, found.stage0) == ("nguyen-smoke", 2, 128, "smoke")
    for name in ("RECIPE", "DATA", "SMOKE"):
        monkeypatch.delenv(name)
    assert recipe.chosen()[0].name == "nguyen-smoke"  # a stage that is rerun alone takes the trial up


def test_data_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("DATA", "nowhere")
    with pytest.raises(UsageError, match="DATA=nowhere"):
        choose.choose(None)


def test_the_choice_is_remembered(home):
    settings = choose.choose("smoke")
    last = read_json(home / "artifacts" / "last.json")
    assert (last["recipe"], last["data"]) == (settings["RECIPE"], settings["DATA"])


def test_two_data_folders_of_one_name_do_not_share_results(bare, home):
    for folder in ("a/set", "b/set"):
        (bare / folder).mkdir(parents=True)
    choose.claim(home / "artifacts" / "set", bare / "a/set")
    choose.claim(home / "artifacts" / "set", bare / "a/set")
    with pytest.raises(UsageError, match="holds the results of"):
        choose.claim(home / "artifacts" / "set", bare / "b/set")


def test_a_data_folder_that_moved_keeps_its_results(bare, home):
    (bare / "new" / "set").mkdir(parents=True)
    choose.claim(home / "artifacts" / "set", bare / "old" / "set")
    choose.claim(home / "artifacts" / "set", bare / "new" / "set")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["a", "b"], 2), (["--fast"], 2), (["no_such"], 2), (["--help"], 0), (["smoke"], 0), (["nguyen", "--smoke"], 0)],
)
def test_exit_codes_and_exports(arguments, code, home):
    command = [sys.executable, "-m", "pipeline.choose", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code == 0 and arguments != ["--help"]:
        words = shlex.split(done.stdout)
        assert words[0] == "export"
        assert f"RECIPE={ROOT / 'recipes' / f'{arguments[0]}.yaml'}" in words
        assert ("SMOKE=1" in words) == ("--smoke" in arguments)
    else:
        assert done.stdout.strip() == ("exit 0" if code == 0 else "")
