"""Which recipe and data a run takes, and which choices are refused."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cxr import recipe, tables
from cxr.errors import UsageError
from cxr.files import read_json
from cxr.paths import ROOT
from pipeline import choose
from prepare.steps import PrepareConfig, prepare_data

BOXES = list(tables.BOXES)


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
    settings = choose.choose_run(None)
    assert settings["DATA"] == str(choose.locate_phantoms())
    assert Path(settings["RECIPE"]).name == "phantom.yaml"
    assert capsys.readouterr().err.startswith("no data in data/: running on phantoms")


def test_a_readme_is_no_data(bare):
    (bare / "project" / "data" / "README.md").write_text("put the data here")
    assert choose.choose_data()[0] == choose.locate_phantoms()


@pytest.mark.parametrize("name", ["deep/er/image.DCM", "train-rle.csv"])
def test_data_in_the_project_is_taken_with_the_full_recipe(bare, name):
    file = bare / "project" / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    settings = choose.choose_run(None)
    assert settings["DATA"] == str(bare / "project" / "data")
    assert Path(settings["RECIPE"]).name == "dw_hwang.yaml"


def test_relative_paths_are_meant_from_where_the_command_was_called(bare, monkeypatch):
    (bare / "my data").mkdir()
    monkeypatch.setenv("DATA", "my data")
    monkeypatch.setenv("WEIGHTS", "my weights")
    settings = choose.choose_run("recipes/real_small.yaml")
    assert settings["DATA"] == str(bare / "my data")
    assert settings["WEIGHTS"] == str(bare / "my weights")


def test_the_phantoms_by_name_are_phantoms(monkeypatch):
    monkeypatch.setenv("DATA", str(choose.locate_phantoms()))
    assert Path(choose.choose_run(None)["RECIPE"]).name == "phantom.yaml"


@pytest.mark.parametrize("name", ["real_small", "recipes/real_small.yaml", str(ROOT / "recipes" / "real_small.yaml")])
def test_a_recipe_by_name_or_path(name):
    assert choose.choose_recipe(name) == ROOT / "recipes" / "real_small.yaml"


def test_a_recipe_of_the_users_own(bare):
    own_recipe = bare / "mine.yaml"
    own_recipe.write_text((ROOT / "recipes" / "smoke.yaml").read_text())
    assert choose.choose_recipe("mine.yaml") == own_recipe


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean recipes/real_small\.yaml"):
        choose.choose_recipe("recipes/realsmall.yaml")


def test_a_smoke_trial_is_on_phantoms_of_its_own_though_there_is_data(bare, monkeypatch, home):
    (bare / "project" / "data" / "train-rle.csv").touch()
    monkeypatch.setenv("SMOKE", "1")
    settings = choose.choose_run("recipes/nguyen.yaml")
    assert settings["DATA"] == str(home / "artifacts" / "generated" / "smoke")
    assert settings["SMOKE"] == "1"
    small = recipe.read_recipe(Path(settings["RECIPE"]))
    assert (small.name, small.folds, small.prepared_size, small.stage0) == ("nguyen-smoke", 2, 128, "smoke")
    for name in ("RECIPE", "DATA", "SMOKE"):
        monkeypatch.delenv(name)
    assert recipe.load_recipe_and_paths()[0].name == "nguyen-smoke"  # a stage that is rerun alone takes the trial up


def test_data_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("DATA", "nowhere")
    with pytest.raises(UsageError, match="DATA=nowhere"):
        choose.choose_run(None)


def test_the_choice_is_remembered(home):
    settings = choose.choose_run("smoke")
    last = read_json(home / "artifacts" / "last.json")
    assert (last["recipe"], last["data"]) == (settings["RECIPE"], settings["DATA"])


def test_two_data_folders_of_one_name_do_not_share_results(bare, home):
    for folder in ("a/set", "b/set"):
        (bare / folder).mkdir(parents=True)
    choose.claim_artifacts(home / "artifacts" / "set", bare / "a/set")
    choose.claim_artifacts(home / "artifacts" / "set", bare / "a/set")
    with pytest.raises(UsageError, match="holds the results of"):
        choose.claim_artifacts(home / "artifacts" / "set", bare / "b/set")


def test_a_data_folder_that_moved_keeps_its_results(bare, home):
    (bare / "new" / "set").mkdir(parents=True)
    choose.claim_artifacts(home / "artifacts" / "set", bare / "old" / "set")
    choose.claim_artifacts(home / "artifacts" / "set", bare / "new" / "set")


def test_a_copy_of_the_project_with_its_data_keeps_the_results(bare, home, monkeypatch):
    for folder in ("old/set", "new/set"):
        (bare / folder).mkdir(parents=True)
    choose.claim_artifacts(home / "artifacts" / "set", bare / "old" / "set")
    shutil.copytree(home, bare / "copy")
    monkeypatch.setenv("CXR_HOME", str(bare / "copy"))
    choose.claim_artifacts(bare / "copy" / "artifacts" / "set", bare / "new" / "set")
    with pytest.raises(UsageError, match="holds the results of"):
        choose.claim_artifacts(bare / "copy" / "artifacts" / "set", bare / "old" / "set")


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


def test_two_recipes_of_one_name_do_not_share_a_folder(bare, monkeypatch):
    """The same file from elsewhere is the same recipe; a file that is gone holds nothing."""
    text = (ROOT / "recipes" / "smoke.yaml").read_text()
    for folder, words in {"a": text, "b": text, "c": text + "seed: 2\n"}.items():
        (bare / folder).mkdir()
        (bare / folder / "mine.yaml").write_text(words)
    choose.choose_run("a/mine.yaml")
    choose.choose_run("b/mine.yaml")
    with pytest.raises(UsageError, match=r"holds the results of .*b/mine\.yaml, a recipe of the same name"):
        choose.choose_run("c/mine.yaml")
    monkeypatch.setenv("RECIPE", str(bare / "c" / "mine.yaml"))
    with pytest.raises(UsageError, match="a recipe of the same name"):
        recipe.load_recipe_and_paths()  # of a stage that is rerun alone, too
    (bare / "b" / "mine.yaml").unlink()
    choose.choose_run("c/mine.yaml")


def test_a_renamed_data_folder_keeps_its_results(kaggle_folder, monkeypatch, capsys):
    data = kaggle_folder(patients=4, tests=1)
    monkeypatch.setenv("DATA", str(data))
    choose.choose_run("smoke")
    paths = recipe.read_recipe(ROOT / "recipes" / "smoke.yaml").build_paths(data)
    prepare_data(paths, PrepareConfig(size=128, folds=2, subfolds=1), workers=1)
    tables.write_table(
        pd.DataFrame([["a.png", 0, 9, 0, 9, 1, "edited"]], columns=BOXES), paths.editable_boxes_csv, tables.BOXES
    )
    renamed = data.rename(data.with_name("renamed"))
    monkeypatch.setenv("DATA", str(renamed))
    hold = (
        "import sys; from pathlib import Path; from cxr.runs import lock_folder\nwith lock_folder(Path(sys.argv[1])):"
    )
    command = [sys.executable, "-c", f"{hold} print('held', flush=True); sys.stdin.read()", str(paths.prepared_folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holding:
        assert holding.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="is working in"):
            choose.choose_run("smoke")
        holding.stdin.close()
    choose.choose_run("smoke")
    paths = recipe.read_recipe(ROOT / "recipes" / "smoke.yaml").build_paths(renamed)
    assert paths.editable_boxes_csv.is_file()
    capsys.readouterr()
    prepare_data(paths, PrepareConfig(size=128, folds=2, subfolds=1), workers=1)
    assert capsys.readouterr().out == "prepare: up to date\n"
