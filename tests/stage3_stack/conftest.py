"""Fixtures of stage 3: a made-up dataset, before and after stage 3 has run on it."""

import shutil
from pathlib import Path

import pytest

from stage3_stack import train
from tests.stage3_stack.toy_world import QUICK, World, command, make_world


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which stage 3 has run; `made` and `finished` show it to a test."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("made") / "home"
        patch.setenv("CXR_HOME", str(home))
        world = make_world(home)
        command(world, train.main, patch, *QUICK)
    return world


@pytest.fixture
def made(ran: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world in which stage 3 has run, as CXR_HOME; not to be changed."""
    monkeypatch.setenv("CXR_HOME", str(ran.recipe_file.parent))
    return ran


@pytest.fixture
def finished(ran: World, home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same as a copy, to be changed."""
    shutil.copytree(ran.recipe_file.parent, home)
    monkeypatch.setenv("RECIPE", str(home / "toy.yaml"))
    monkeypatch.setenv("DATA", str(home / "some data"))
    return World(ran.recipe.build_paths(home / "some data"), ran.recipe, ran.truth, home / "toy.yaml")
