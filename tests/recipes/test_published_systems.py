"""The table of docs/published-systems.md: its members are those of the recipes, its numbers those of the networks."""

import json
import re
import subprocess
import sys

import pytest

from cxr import recipe
from cxr.paths import ROOT
from stage1_classify import config as classify
from stage1_classify.timm_members import network as timm_network
from stage2_segment import config as segment
from stage2_segment import networks

ROW = re.compile(r"^\| `(\w+)` \| (.*?) \|", re.MULTILINE)
MEMBER = re.compile(r"`(\w+)` ([\d,]+)")
PUBLISHED = {
    "reyvaz_b2_1024": 7_769_971, "reyvaz_b3_1024": 10_785_065, "reyvaz_b4_512": 17_675_609,
    "reyvaz_b4_1024": 17_675_609,
}  # fmt: skip
COUNT = """
import json, sys
from stage1_classify import config
from stage1_classify.keras_members import backend
members = {name: config.read_member(name).model_copy(update={"weights": "random"}) for name in sys.argv[1:]}
print(json.dumps({name: backend.count_parameters(member) for name, member in members.items()}))
"""


@pytest.fixture(scope="module")
def stated() -> dict[str, dict[str, int]]:
    """Members and their numbers of parameters by recipe, as the table states them."""
    text = (ROOT / "docs" / "published-systems.md").read_text(encoding="utf-8")
    section = text[text.index("\n## Published systems") :].split("\n## ")[1]
    return {name: {m: int(n.replace(",", "")) for m, n in MEMBER.findall(cell)} for name, cell in ROW.findall(section)}


def test_it_names_the_recipes_members(stated):
    assert len(stated) == 8
    for name, members in stated.items():
        found = recipe.read_recipe(ROOT / "recipes" / f"{name}.yaml")
        same = name == "dw_hwang_keras"  # its segmenters are those of the row above
        assert list(members) == found.stage1 + ([] if same else found.stage2)


def test_the_numbers_are_the_networks(stated):
    every = {name: number for members in stated.values() for name, number in members.items()}
    assert every == torchs(every) | kerass(every)
    assert PUBLISHED.items() <= every.items()


def torchs(names) -> dict[str, int]:
    own = [name for name in names if (classify.CONFIGS / f"{name}.yaml").is_file()]
    counted = {name: networks.count_parameters(segment.read_member(name)) for name in names if name not in own}
    timm = {name: classify.read_member(name) for name in own}
    timm = {name: member for name, member in timm.items() if member.framework == "timm"}
    return counted | {name: timm_network.count_parameters(member) for name, member in timm.items()}


def kerass(names) -> dict[str, int]:
    own = [name for name in names if (classify.CONFIGS / f"{name}.yaml").is_file()]
    own = [name for name in own if classify.read_member(name).framework == "keras"]
    command = [sys.executable, "-c", COUNT, *own]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
