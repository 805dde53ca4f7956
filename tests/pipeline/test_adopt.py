"""Adopting finished work as made by today's code: what may differ, what may not, and what is recorded."""

import sys

import pytest

from cxr import runs
from cxr.config import StrictModel
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths
from cxr.recipe import read_recipe
from cxr.step import Step, run_step
from pipeline import adopt
from pipeline.plan import print_version_changes


class Settings(StrictModel):
    depth: int = 1


@pytest.fixture
def step(tmp_path, monkeypatch) -> Step:
    """The only step of a run, made by other code, with another torch and at another commit."""
    paths = Paths(tmp_path / "xray", "toy", 64)
    folder = paths.fold_folder(1, "a", 0)
    files = {"inputs": (tmp_path / "in.csv",), "outputs": (folder / "out",)}
    step = Step("stage 1 a", "cxr", ("cxr.imaging.rle",), folder, Settings(), **files)
    (tmp_path / "in.csv").write_text("1")
    run_step(step, lambda _identity, _metrics: (folder / "out").write_text("made"))
    record = read_json(folder / "run.json")
    old = {"fingerprint": "old", "commit": "0" * 40, "source": record["source"] | {"cxr.imaging.rle": "x", "gone": "y"}}
    write_json(folder / "run.json", record | old | {"versions": record["versions"] | {"torch": "1.0"}})
    monkeypatch.setattr(adopt, "load_recipe_and_paths", lambda: (read_recipe(ROOT / "recipes" / "smoke.yaml"), paths))
    monkeypatch.setattr(
        adopt,
        "list_candidates",
        lambda stage, *_: [adopt.AdoptionCandidate.from_step(step)] if stage == "stage1" else [],
    )
    return step


def run_adopt(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["adopt", *arguments])
    adopt.main()
    return capsys.readouterr().out


def test_work_of_other_code_is_adopted_and_that_is_noted(step, monkeypatch, capsys):
    before = read_json(step.folder / "run.json")
    printed = run_adopt(monkeypatch, capsys, "--dry-run")
    assert printed.startswith("stage 1 a: would be adopted: code of cxr.imaging.rle, gone; torch 1.0 -> ")
    assert "commit 000000000 -> " in printed
    assert read_json(step.folder / "run.json") == before
    assert run_adopt(monkeypatch, capsys, "stage1").startswith("stage 1 a: adopted: code of cxr.imaging.rle, gone")
    assert step.is_up_to_date
    record = read_json(step.folder / "run.json")
    assert record["versions"] == runs.package_versions()
    (note,) = record["adopted"]
    assert note["from"] == {key: before[key] for key in ("fingerprint", "commit", "versions", "source")}
    assert len(note["date"]) == 10
    assert run_adopt(monkeypatch, capsys) == "stage 1 a: up to date\nnothing to adopt\n"


@pytest.mark.parametrize(("change", "words"), [
    (lambda step: (step.inputs[0]).write_text("2"), "other input in.csv"),
    (lambda step: (step.folder / "out").write_text("edited"), "out is missing or changed"),
    (lambda step: (step.folder / "out").unlink(), "out is missing or changed"),
    (lambda step: rewrite(step, config={"depth": 7}), "setting depth: 7 -> 1"),
    (lambda step: rewrite(step, config={}), "setting depth: none -> 1"),
])  # fmt: skip
def test_other_settings_inputs_and_damage_are_not(step, monkeypatch, capsys, change, words):
    change(step)
    printed = run_adopt(monkeypatch, capsys)
    assert printed.startswith("stage 1 a: stays to be made anew: ")
    assert words in printed
    assert printed.endswith("\nnothing to adopt\n")
    assert read_json(step.folder / "run.json")["fingerprint"] == "old"


@pytest.mark.parametrize("content", ["", "{}", '{"fingerprint": "of an earlier kind", "source": "x"}'])
def test_what_is_not_finished_is_not(step, monkeypatch, capsys, content):
    (step.folder / "run.json").write_text(content)
    printed = "stage 1 a: its run.json is damaged or of an earlier version, so nothing to adopt\nnothing to adopt\n"
    assert run_adopt(monkeypatch, capsys) == printed
    (step.folder / "run.json").unlink()
    assert run_adopt(monkeypatch, capsys) == "stage 1 a: not finished, so nothing to adopt\nnothing to adopt\n"


def rewrite(step: Step, **changes) -> None:
    write_json(step.folder / "run.json", read_json(step.folder / "run.json") | changes)


def test_the_plan_says_once_what_else_made_it(step, capsys):
    print_version_changes([step, step])
    packages, code = capsys.readouterr().out.splitlines()
    assert f"other versions than in finished steps: torch 1.0 -> {runs.package_versions()['torch']}" in packages
    assert "of 2 finished steps only the code has changed; to keep them: python -m pipeline.adopt" in code
    adopt.record_adoption(adopt.AdoptionCandidate.from_step(step))
    print_version_changes([step])
    assert capsys.readouterr().out == ""


def test_every_step_of_a_run_can_be_adopted(tmp_path, prepared_paths):
    paths = prepared_paths
    recipe = read_recipe(ROOT / "recipes" / "smoke.yaml").model_copy(
        update={"prepared_size": 64, "name": paths.recipe_name}
    )
    every = [step for stage in adopt.STAGES for step in adopt.list_candidates(stage, recipe, paths)]
    assert [step.name for step in every][:5] == ["prepare", "folds", "stage 0 smoke model 1 of 2",
                                                "stage 0 smoke model 2 of 2", "stage 0 smoke detections"]  # fmt: skip
    assert [step.name for step in every][-3:] == ["stage 2 smoke fold 1", "stage 2 smoke test maps", "stage 3"]
    assert [bool(step.run_record) for step in every[:3]] == [True, True, False]
    assert runs.matches_identity(every[0].folder, every[0].identity)
