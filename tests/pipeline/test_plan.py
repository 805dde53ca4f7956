"""What a run says before its first training, and after its last step."""

import os
import re
from pathlib import Path

import pytest

from cxr import recipe as recipes
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from cxr.paths import ROOT
from pipeline import choose, closing_message, devices, launch, plan


@pytest.fixture
def house(toy, monkeypatch):
    """Four stages of toy units."""
    units = {f"stage{number}": [toy(f"s{number}", disk=3_000_000)] for number in range(4)}
    monkeypatch.setattr(plan, "list_steps_by_stage", lambda recipe, paths: units)
    monkeypatch.setattr(closing_message, "list_steps_by_stage", lambda recipe, paths: units)
    monkeypatch.setattr(devices, "list_gpus", dict)
    return units


def smoke() -> recipes.Recipe:
    return recipes.read_recipe(ROOT / "recipes" / "smoke.yaml")


def done(unit) -> None:
    unit.folder.mkdir(parents=True)
    (unit.folder / "run.json").write_text('{"seconds": 61}')


def test_the_plan_counts_units_and_disk(house, paths, capsys):
    done(house["stage0"][0])
    plan.print_plan(smoke(), paths)
    said = capsys.readouterr().out
    assert re.search(r"stage0 +0 to run, +1 up to date, +0 MB", said)
    assert re.search(r"stage2 +1 to run, +0 up to date, +3 MB", said)
    assert "9 MB more" in said
    assert "CPU" in said


def test_nothing_to_do_is_one_line(house, paths, capsys):
    for units in house.values():
        done(units[0])
    plan.print_plan(smoke(), paths)
    assert capsys.readouterr().out == "plan: up to date (4 steps)\n"


def test_a_run_that_cannot_fit_is_refused(house, paths, monkeypatch, toy):
    house["stage2"].append(toy("huge", disk=10**18))
    with pytest.raises(UsageError, match="make room"):
        plan.print_plan(smoke(), paths)


def test_a_recipe_for_a_gpu_names_the_smaller_one_on_a_cpu(monkeypatch):
    full = recipes.read_recipe(ROOT / "recipes" / "dw_hwang.yaml")
    monkeypatch.setattr(devices, "list_gpus", dict)
    assert "recipes/real_small.yaml" in plan.describe_missing_gpu(full)
    assert plan.describe_missing_gpu(smoke()) is None
    monkeypatch.setattr(devices, "list_gpus", lambda: {"0": "Card"})
    assert plan.describe_missing_gpu(full) is None


def test_the_last_words(house, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(closing_message.jobs, "run_module", lambda *_: None)
    monkeypatch.delenv("RUN_BEGAN", raising=False)
    done(house["stage1"][0])
    paths = smoke().build_paths(choose.locate_phantoms())
    paths.submission_csv.parent.mkdir(parents=True)
    paths.submission_csv.touch()
    closing_message.finish_run(smoke(), paths)
    said = capsys.readouterr().out
    assert str(paths.submission_csv) in said
    assert "stage1 1:01" in said
    assert "run on phantoms" in said
    assert said.rstrip().splitlines()[-1].startswith("Research use only")
    closing_message.finish_run(smoke(), smoke().build_paths(tmp_path / "real"))
    assert "phantoms" not in capsys.readouterr().out


def test_phantoms_are_made_once_and_again_when_their_settings_change(monkeypatch, capsys):
    made = []

    def make(name, command):
        made.append(command)
        write_json(Path(command[1]) / "phantom.json", {"config": launch.default_config().model_dump(mode="json")})

    monkeypatch.setattr(launch.jobs, "run_module", make)
    paths = smoke().build_paths(choose.locate_phantoms())
    launch.make_phantoms(smoke(), paths)
    launch.make_phantoms(smoke(), paths)
    assert made == [("phantom.make", str(paths.data_folder))]
    assert capsys.readouterr().out == f"phantoms: up to date in {paths.data_folder}\n"
    other = launch.default_config().model_copy(update={"seed": 99})
    monkeypatch.setattr(launch, "default_config", lambda: other)
    launch.make_phantoms(smoke(), paths)
    assert len(made) == 2


def test_phantoms_of_which_a_file_is_lost_or_cut_are_made_again(monkeypatch):
    made = []

    def make(_name, command):
        made.append(command)
        write_json(Path(command[1]) / "phantom.json", {"config": launch.default_config().model_dump(mode="json")})
        (Path(command[1]) / "one.dcm").write_bytes(b"one")

    monkeypatch.setattr(launch.jobs, "run_module", make)
    paths = smoke().build_paths(choose.locate_phantoms())
    file = paths.data_folder / "one.dcm"
    for count, damage in enumerate((file.unlink, lambda: file.write_bytes(b"on"), lambda: None, lambda: None), 1):
        launch.make_phantoms(smoke(), paths)
        assert len(made) == min(count, 3)
        damage()


def test_given_data_need_no_phantoms(tmp_path, capsys):
    launch.make_phantoms(smoke(), smoke().build_paths(tmp_path))
    assert capsys.readouterr().out == "phantoms: not needed\n"


@pytest.fixture
def doctors(monkeypatch, tmp_path):
    """Paths of prepared data, and the calls of a doctor who finds nothing."""
    paths, called = smoke().build_paths(tmp_path / "mine"), []

    def look(_name, command, accepted_codes):
        called.append((command, accepted_codes))
        words = {"summary": "1 note: fit to run", "exit_code": 0, "counts": {}, "findings": [], "prevalence": []}
        write_json(paths.artifacts_folder / "doctor.json", {"data": str(paths.data_folder)} | words)

    monkeypatch.setattr(launch.jobs, "run_module", look)
    paths.data_folder.mkdir()
    write_json(paths.prepared_folder / "run.json", {"inputs": {"dicoms": "some"}})
    return paths, called


def test_the_doctor_looks_once_at_data_that_were_prepared(doctors, capsys):
    paths, called = doctors
    launch.run_doctor(smoke(), paths)
    launch.run_doctor(smoke(), paths)
    assert called == [
        (("datatools.doctor", str(paths.data_folder), "--brief"), (0, 4))
    ]  # its warnings do not stop a run
    assert capsys.readouterr().out == "doctor: up to date; 1 note: fit to run\n"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"summary": "of an earlier make"}', "{damaged", "null"])
def test_a_damaged_verdict_is_looked_for_again(doctors, text):
    paths, called = doctors
    launch.run_doctor(smoke(), paths)
    (paths.artifacts_folder / "doctor.json").write_text(text)
    launch.run_doctor(smoke(), paths)
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2


@pytest.mark.parametrize("other", [{"data": "/another/mine"}, {"exit_code": 3}])
def test_a_verdict_of_other_data_or_against_a_run_is_looked_for_again(doctors, other):
    paths, called = doctors
    launch.run_doctor(smoke(), paths)
    write_json(paths.artifacts_folder / "doctor.json", read_json(paths.artifacts_folder / "doctor.json") | other)
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2


@pytest.mark.parametrize("name", [
    "patients.csv", "chest_tubes.csv", "original_boundingbox.csv", "boundingbox_csv/original_boundingbox.csv",
    "boundingbox_csv/boxes.json", "../home/boundingbox_csv/original_boundingbox.csv",
])  # fmt: skip
def test_the_doctor_looks_again_when_a_table_comes_changes_or_goes(doctors, name):
    paths, called = doctors
    table = paths.data_folder / name
    table.parent.mkdir(parents=True, exist_ok=True)
    launch.run_doctor(smoke(), paths)
    for change in (lambda: table.write_text("1"), lambda: table.write_text("2"), table.unlink):
        before = len(called)
        change()
        if table.exists():
            os.utime(table, (0, 0))  # as a copy that keeps its time
        launch.run_doctor(smoke(), paths)
        launch.run_doctor(smoke(), paths)
        assert len(called) == before + 1


def test_the_doctor_looks_again_at_what_was_prepared_anew_and_when_forced(doctors, monkeypatch):
    paths, called = doctors
    launch.run_doctor(smoke(), paths)
    write_json(paths.prepared_folder / "run.json", {"inputs": {"dicoms": "others"}})
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2
    monkeypatch.setenv("FORCE", "1")
    launch.run_doctor(smoke(), paths)
    assert len(called) == 3


def test_the_doctor_looks_again_when_he_has_learned(doctors, monkeypatch):
    paths, called = doctors
    launch.run_doctor(smoke(), paths)
    monkeypatch.setattr(launch, "reached_modules", lambda command: {command: "another"})
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2


def test_found_boxes_are_not_the_doctors(doctors):
    paths, called = doctors
    launch.run_doctor(smoke(), paths)
    paths.editable_boxes_csv.parent.mkdir(parents=True)
    paths.editable_boxes_csv.touch()
    launch.run_doctor(smoke(), paths)
    assert len(called) == 1


def test_a_look_that_stops_the_run_is_done_again(doctors, monkeypatch):
    paths, called = doctors
    look = launch.jobs.run_module

    def stop(*arguments, accepted_codes):
        look(*arguments, accepted_codes)
        raise launch.jobs.ProcessFailure(3)

    monkeypatch.setattr(launch.jobs, "run_module", stop)
    for _ in range(2):
        with pytest.raises(launch.jobs.ProcessFailure):
            launch.run_doctor(smoke(), paths)
    assert len(called) == 2


def test_a_label_gate_that_no_head_can_open_is_refused_before_any_work():
    recipe = recipes.read_recipe(ROOT / "recipes" / "nguyen.yaml").model_copy(update={"stage3": "amirassov"})
    with pytest.raises(UsageError, match=r"amirassov\.yaml: grid\.label_head_thresholds: no segmenter of nguyen"):
        launch.require_label_head(recipe)
    with_a_head = recipe.model_copy(update={"stage2": ["nguyen_resnet50", "amirassov_resnet34"]})
    launch.require_label_head(with_a_head)
    launch.require_label_head(recipes.read_recipe(ROOT / "recipes" / "amirassov.yaml"))
