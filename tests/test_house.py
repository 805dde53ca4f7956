"""The house's rules: who may import whom, pins that agree, settings that parse, nothing that names a registry."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from cxr import recipe
from cxr.paths import ROOT
from cxr.source_code import reached_modules
from pipeline.installed import PIN_PATTERN, parse_pins
from pipeline.stages import STAGE_PACKAGES, list_steps_by_stage

STAGES = tuple(STAGE_PACKAGES.values())
MAY_IMPORT = {
    "cxr": set(),
    "prepare": {"cxr"},
    "evaluation": {"cxr"},
    "phantom": {"cxr"},
    "weights": {"cxr", "phantom"},  # the start weights are made from phantoms
    "datatools": {"cxr", "prepare", "evaluation"},
    **{stage: {"cxr", "evaluation"} for stage in STAGES},
    "pipeline": {"cxr", "prepare", "evaluation", "datatools", "phantom", *STAGES},
    "bench": {"cxr", "prepare", "evaluation", "datatools", "phantom", "pipeline", *STAGES},
}
"""For each room the rooms that it may import beside itself; stages talk through files, never by imports."""
ROOMS_OF_CODE = tuple(MAY_IMPORT)
TORCH = {"torch", "torchvision", "timm", "segmentation_models_pytorch"}
TENSORFLOW = {"tensorflow", "keras", "efficientnet"}
FRAMEWORKS = TORCH | TENSORFLOW
FILES = sorted(path for room in ROOMS_OF_CODE for path in (ROOT / room).rglob("*.py"))
CI = ROOT / ".ci" / "run"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
# Distributions whose modules have another name.
MODULES = {
    "cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
}  # fmt: skip


@cache
def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, by statement or by import_module with a plain string."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            plain = isinstance(node.args[0], ast.Constant | ast.JoinedStr)
            names |= {ast.unparse(node.args[0]).strip("f'\"")} if plain else set()
    return names


def imported_rooms(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)} & {*ROOMS_OF_CODE, "tests"}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_a_room_imports_only_what_it_may(path):
    room = path.relative_to(ROOT).parts[0]
    assert imported_rooms(path) <= {room, *MAY_IMPORT[room]}


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "pipeline")], ids=identify)
def test_the_pipeline_knows_of_a_stage_its_config_alone(path):
    of_stages = {name for name in imported(path) if name.split(".")[0] in STAGE_PACKAGES.values() or "{" in name}
    assert all(re.fullmatch(r"(\w+|\{STAGE_PACKAGES\[stage\]\})\.config(\.\w+)*", name) for name in of_stages), (
        of_stages
    )
    assert "phantom.make" not in imported(path)


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "cxr")], ids=identify)
def test_cxr_has_frameworks_in_their_kits_only(path):
    own = {"torchkit": TORCH, "tfkit": TENSORFLOW}.get(path.parent.name, set())
    assert {name.split(".")[0] for name in imported(path)} & FRAMEWORKS <= own
    if not own:
        assert not any(name.startswith("cxr.torchkit") for name in imported(path))


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_modules_chosen_as_a_unit_runs_are_named_by_it(path, tmp_path):
    """Import statements do not tell them: cxr.source_code would not know that the unit depends on them."""
    found = recipe.read_recipe(path)
    stages = list_steps_by_stage(found, found.build_paths(tmp_path)).values()
    units = [each for stage in stages for unit in stage for each in (*unit.substeps, unit)]
    for unit in units:
        reached = reached_modules(unit.command[0], unit.chosen_modules, unit.excluded_modules)
        choosing = [name for name in reached if chooses(ROOT.joinpath(*name.split(".")).with_suffix(".py"))]
        assert choosing == (["stage1_classify.train"] if unit.room == "stage1_classify" else [])
        assert bool(choosing) == bool(unit.chosen_modules)


def chooses(path: Path) -> bool:
    """Whether a file imports a module by a name that is put together."""
    return path.is_file() and any("{" in name for name in imported(path))


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_a_file_has_one_framework(path):
    kits = {"torchkit": TORCH, "tfkit": TENSORFLOW}
    used = {name.split(".")[0] for name in imported(path)}
    for kit, own in kits.items():
        used |= own if any(name.startswith(f"cxr.{kit}") for name in imported(path)) else set()
    assert not (used & TORCH and used & TENSORFLOW)


@pytest.mark.parametrize("room", [*STAGE_PACKAGES.values(), "pipeline", "phantom"])
def test_what_runs_before_a_framework_is_needed_imports_none(room):
    configs = sorted((ROOT / room).glob("config*.py")) + sorted((ROOT / room / "config").glob("*.py"))
    paths = configs if room != "pipeline" else sorted((ROOT / room).rglob("*.py"))
    for path in paths:
        assert not {name.split(".")[0] for name in imported(path)} & FRAMEWORKS


def test_no_module_is_a_drawer_for_everything():
    assert not [path for path in FILES if path.stem in ("utils", "util", "common", "helpers", "misc")]


def test_third_party_imports_are_declared():
    used = {name.split(".")[0] for path in FILES for name in imported(path)}
    known = {*sys.stdlib_module_names, *ROOMS_OF_CODE, "tests"}
    third = {MODULES.get(name, name) for name in used if name.isidentifier() and name not in known}
    assert third <= set(declared())


def declared() -> dict[str, str]:
    """The direct dependencies of pyproject.toml and their versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["dev"]
    return dict(line.split("==") for line in lines)


def test_pins_are_equal():
    locked = parse_pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert declared().items() <= locked.items()


def test_conda_installs_the_lock():
    parts = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert {"pip": ["-r requirements.lock"]} in parts
    (python,) = [part for part in parts if isinstance(part, str) and part.startswith("python=")]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert wanted == ">=3.11,<3.13"
    assert python == "python=3.11"


def test_every_line_of_the_lock_is_a_pin():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert all(PIN_PATTERN.match(line) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock", "environment.yml"])
def test_no_registry_host_is_named(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|index-url|find-links|trusted-host|\b[\w-]+\.(org|com|net|io)\b", text)


def test_torch_and_torchvision_are_a_pair():
    torch, torchvision = (declared()[name].split(".") for name in ("torch", "torchvision"))
    assert int(torchvision[1]) == int(torch[1]) + 15  # 2.0 came with 0.15, and so on since


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_a_recipe_parses_and_all_that_it_names_exists(path, tmp_path):
    found = recipe.read_recipe(path)
    paths = found.build_paths(tmp_path)
    for room in STAGE_PACKAGES.values():
        assert isinstance(import_module(f"{room}.config").units(found, paths), list)
    assert found.smaller is None or recipe.find_recipe(found.smaller).is_file()


@pytest.mark.parametrize(
    "path",
    sorted(path for room in STAGE_PACKAGES.values() for path in (ROOT / room / "configs").glob("*.yaml")),
    ids=identify,
)
def test_a_members_settings_parse(path, tmp_path):
    """Through a recipe that names this member."""
    stage = next(stage for stage, room in STAGE_PACKAGES.items() if room == path.relative_to(ROOT).parts[0])
    base = recipe.read_recipe(ROOT / "recipes" / "smoke.yaml")
    named = [path.stem] if stage in ("stage1", "stage2") else path.stem
    found = base.model_copy(update={stage: named})
    assert import_module(f"{STAGE_PACKAGES[stage]}.config").units(found, found.build_paths(tmp_path))


def test_the_phantoms_settings_parse():
    assert import_module("phantom.config").default_config().size > 0


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.sh")), *sorted(ROOT.glob("*/*.sh")), CI], ids=identify)
def test_shell_files_parse(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
