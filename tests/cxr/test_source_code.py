"""Which code a unit depends on: nothing is stale by comments, docstrings and layout, and nothing else is forgotten."""

import ast
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from cxr import source_code
from cxr.paths import ROOT
from cxr.recipe import read_recipe
from cxr.source_code import reached_modules
from pipeline.stages import STAGE_PACKAGES, list_steps_by_stage
from prepare.steps import FOLDS_CODE, PIXELS_CODE

CLOSED = "def f(x):\n    return x + 1\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the project's code, to be changed."""
    for room in ("cxr", "prepare", "evaluation", "datatools", "pipeline", *STAGE_PACKAGES.values()):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "configs"))
    return tmp_path


def codes(root: Path) -> dict[str, dict[str, str]]:
    """The code of every unit of a recipe with all kinds of members, as it stands in `root`."""
    source_code._module_file.cache_clear()
    members = {"stage1": ["mnv2_crop", "xception_crop_keras"], "stage3": "dw_hwang"}
    recipe = read_recipe(ROOT / "recipes" / "phantom.yaml").model_copy(update=members | {"train_folds": [0]})
    stages = list_steps_by_stage(recipe, recipe.build_paths(root)).values()
    units = [each for some in stages for unit in some for each in (*unit.substeps, unit)]
    kinds = {unit.name: (unit.command[0], unit.chosen_modules, unit.excluded_modules) for unit in units}
    kinds |= {"pixels": PIXELS_CODE, "folds": FOLDS_CODE}
    return {name: reached_modules.__wrapped__(*kind, root=root) for name, kind in kinds.items()}


def stale(before: dict, after: dict) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_comments_docstrings_layout_and_new_modules_make_nothing_stale(sources):
    before = codes(sources)
    for path in sources.rglob("*.py"):
        text = ast.unparse(ast.parse(path.read_text()))  # without comments, in another layout
        lines = [f"# a comment\n\n{line}" if line[:4] in ("def ", "clas") else line for line in text.splitlines()]
        path.write_text('"""Another docstring."""\n\n\n' + "\n".join(lines) + '\n\n"""A text."""\n')
    (sources / "cxr" / "unrelated.py").write_text("import numpy\n")
    assert not stale(before, codes(sources))
    assert len(before) > 10


CHANGES = {
    "stage1_classify/data.py": {"stage 1 *"},
    "stage1_classify/timm_members/backend.py": {"stage 1 mnv2_crop *"},
    "stage1_classify/keras_members/train_step.py": {"stage 1 xception_crop_keras *"},
    "stage2_segment/inference.py": {"stage 2 *"},
    "stage2_segment/losses.py": {"stage 2 * fold 0"},
    "cxr/torchkit/heads.py": {"stage 1 mnv2_crop *", "stage 2 *"},
    "evaluation/metric_list.py": {"stage 3"},
    "stage3_stack/postprocessing/nested_choice.py": {"stage 3"},
    "stage3_stack/mask_stacker/network.py": {"stage 3 mask stack"},
    "stage0_bbox/overview.py": {"stage 0 fasterrcnn_small"},
    "stage0_bbox/detect.py": {"stage 0 fasterrcnn_small", "stage 0 * detections"},
    "stage0_bbox/network.py": {"stage 0 *"},
    "prepare/folds.py": {"folds"},
    "cxr/imaging/grayscale.py": {"pixels", "folds"},
    "pipeline/report/page.py": set(),
    "datatools/doctor/patient_checks.py": set(),
    "stage1_classify/timm_members/grad_cam.py": set(),
}
"""A file, and the units that a change in it makes stale."""


def test_a_change_of_code_makes_stale_what_reaches_it(sources):
    before = codes(sources)
    for path, expected in CHANGES.items():
        text = (sources / path).read_text()
        tree = ast.parse(text)
        function = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
        function.body.append(ast.parse("return 12345").body[0])
        (sources / path).write_text(ast.unparse(tree))
        found = stale(before, codes(sources))
        (sources / path).write_text(text)
        assert found == {name for name in before if any(fnmatch(name, pattern) for pattern in expected)}, path
        assert bool(found) == bool(expected), path


def test_a_package_counts_with_its_init_and_late_imports_count(tmp_path):
    files = {
        "a/__init__.py": "X = 1\n", "a/b.py": "def f():\n    from c import d\n    import e.f\n", "c/__init__.py": "",
        "c/d.py": "from importlib import import_module\nimport_module('late')\n", "late.py": "import json\n",
        "e/f.py": "", "chosen.py": "import c.d\n", "unrelated.py": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(reached_modules("a.b", root=tmp_path)) == ["a", "a.b", "c", "c.d", "e.f", "late"]
    assert list(reached_modules("a.b", ("chosen",), ("c.d",), root=tmp_path)) == ["a", "a.b", "c", "chosen", "e.f"]
    assert list(reached_modules("a.b", ("chosen",), ("c", "e"), root=tmp_path)) == ["a", "a.b", "chosen"]
    for wrong in ({"command": "a.x"}, {"command": "a.b", "chosen_modules": ("chosn",)}):
        with pytest.raises(ModuleNotFoundError, match=r"no module (a\.x|chosn)"):
            reached_modules(**wrong, root=tmp_path)


@pytest.mark.parametrize(("one", "other", "same"), [
    (CLOSED, "def f(x):  # why\n    'About f.'\n    return (x +\n        1)\n", True),
    ("X = 'a' 'b'\n", "X = \"ab\"\n", True),
    (CLOSED, "def f(x):\n    return x + 2\n", False),
    (CLOSED, "def f(x, y=1):\n    return x + 1\n", False),
    ("X = 1\n", "X = True\n", False),
    ("X = 1\n", "X = 1.0\n", False),
    ("X = ['', 'a']\n", "X = ['a']\n", False),
    ("X = None\n", "X = []\n", False),
    ("X = f'{a}'\n", "X = f'{a!r}'\n", False),
    ("f(*, a)\n".replace("*, ", ""), "f(*a)\n", False),
])  # fmt: skip
def test_what_is_compared(one, other, same):
    assert (source_code._parse_code(one.encode()) == source_code._parse_code(other.encode())) is same


def test_python_3_12_ends_some_texts_with_an_empty_one():
    value = ast.FormattedValue(ast.Name("x"), -1)
    one, other = ast.JoinedStr([value]), ast.JoinedStr([value, ast.Constant("")])
    assert source_code._outline_tree(one) == source_code._outline_tree(other)


def test_a_second_process_parses_nothing(monkeypatch):
    expected = reached_modules.__wrapped__("cxr.imaging.rle")
    monkeypatch.setattr(source_code, "_parse_code", None)
    assert reached_modules.__wrapped__("cxr.imaging.rle") == expected != {}


def test_nowhere_to_note_it(home):
    home.mkdir()
    (home / "artifacts").write_text("a file in the way")
    assert "cxr.imaging.rle" in reached_modules.__wrapped__("cxr.imaging.rle")


def test_all_that_a_command_loads_is_among_what_it_reaches():
    """Against the interpreter itself."""
    code = "import sys, stage1_classify.train; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.split(".")[0] in ("cxr", *STAGE_PACKAGES.values())}
    assert {"stage1_classify.train", "cxr.tables"} <= ours <= reached_modules("stage1_classify.train").keys()
