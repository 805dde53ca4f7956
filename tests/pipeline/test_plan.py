"""What a run prints before its first training and after its last step, and when phantoms and data check run."""

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
def toy_stages(toy, monkeypatch):
    """Four stages of toy steps."""
    steps = {f"stage{number}": [toy(f"s{number}", disk=3_000_000)] for number in range(4)}
    monkeypatch.setattr(plan, "list_steps_by_stage", lambda recipe, paths: steps)
    monkeypatch.setattr(closing_message, "list_steps_by_stage", lambda recipe, paths: steps)
    monkeypatch.setattr(devices, "list_gpus", dict)
    return steps


def smoke() -> recipes.Recipe:
    return recipes.read_recipe(ROOT / "recipes" / "smoke.yaml")


def mark_finished(step) -> None:
    step.folder.mkdir(parents=True)
    (step.folder / "run.json").write_text('{"seconds": 61}')


def test_the_plan_counts_steps_and_disk(toy_stages, paths, capsys):
    mark_finished(toy_stages["stage0"][0])
    plan.print_plan(smoke(), paths)
    printed = capsys.readouterr().out
    assert re.search(r"stage0 +0 to run, +1 up to date, +0 MB", printed)
    assert re.search(r"stage2 +1 to run, +0 up to date, +3 MB", printed)
    assert "9 MB more" in printed
    assert "CPU" in printed


def test_nothing_to_do_is_one_line(toy_stages, paths, capsys):
    for steps in toy_stages.values():
        mark_finished(steps[0])
    plan.print_plan(smoke(), paths)
    assert capsys.readouterr().out == "plan: up to date (4 steps)\n"


def test_a_run_that_cannot_fit_is_refused(toy_stages, paths, monkeypatch, toy):
    toy_stages["stage2"].append(toy("huge", disk=10**18))
    with pytest.raises(UsageError, match="make room"):
        plan.print_plan(smoke(), paths)


def test_a_recipe_for_a_gpu_names_the_smaller_one_on_a_cpu(monkeypatch):
    full = recipes.read_recipe(ROOT / "recipes" / "dw_hwang.yaml")
    monkeypatch.setattr(devices, "list_gpus", dict)
    assert "recipes/real_small.yaml" in plan.describe_missing_gpu(full)
    assert plan.describe_missing_gpu(smoke()) is None
    monkeypatch.setattr(devices, "list_gpus", lambda: {"0": "Card"})
    assert plan.describe_missing_gpu(full) is None


def test_the_last_words(toy_stages, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(closing_message.jobs, "run_module", lambda *_: None)
    monkeypatch.delenv("RUN_BEGAN", raising=False)
    mark_finished(toy_stages["stage1"][0])
    paths = smoke().build_paths(choose.locate_phantoms())
    paths.submission_csv.parent.mkdir(parents=True)
    paths.submission_csv.touch()
    closing_message.finish_run(smoke(), paths)
    printed = capsys.readouterr().out
    assert str(paths.submission_csv) in printed
    assert "stage1 1:01" in printed
    assert "run on phantoms" in printed
    assert printed.rstrip().splitlines()[-1].startswith("Research use only")
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
def doctor_calls(monkeypatch, tmp_path):
    """Paths of prepared data, and the calls of a data check that finds nothing."""
    paths, called = smoke().build_paths(tmp_path / "mine"), []

    def look(_name, command, accepted_codes):
        called.append((command, accepted_codes))
        words = {"summary": "1 note: fit to run", "exit_code": 0, "counts": {}, "findings": [], "prevalence": []}
        write_json(paths.artifacts_folder / "doctor.json", {"data": str(paths.data_folder)} | words)

    monkeypatch.setattr(launch.jobs, "run_module", look)
    paths.data_folder.mkdir()
    write_json(paths.prepared_folder / "run.json", {"inputs": {"dicoms": "some"}})
    return paths, called


def test_the_doctor_looks_once_at_data_that_were_prepared(doctor_calls, capsys):
    paths, called = doctor_calls
    launch.run_doctor(smoke(), paths)
    launch.run_doctor(smoke(), paths)
    assert called == [
        (("datatools.doctor", str(paths.data_folder), "--brief"), (0, 4))
    ]  # its warnings do not stop a run
    assert capsys.readouterr().out == "doctor: up to date; 1 note: fit to run\n"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"summary": "of an earlier make"}', "{damaged", "null"])
def test_a_damaged_verdict_is_looked_for_again(doctor_calls, text):
    paths, called = doctor_calls
    launch.run_doctor(smoke(), paths)
    (paths.artifacts_folder / "doctor.json").write_text(text)
    launch.run_doctor(smoke(), paths)
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2


@pytest.mark.parametrize("other", [{"data": "/another/mine"}, {"exit_code": 3}])
def test_a_verdict_of_other_data_or_against_a_run_is_looked_for_again(doctor_calls, other):
    paths, called = doctor_calls
    launch.run_doctor(smoke(), paths)
    write_json(paths.artifacts_folder / "doctor.json", read_json(paths.artifacts_folder / "doctor.json") | other)
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2


@pytest.mark.parametrize("name", [
    "patients.csv", "chest_tubes.csv", "original_boundingbox.csv", "boundingbox_csv/original_boundingbox.csv",
    "boundingbox_csv/boxes.json", "../home/boundingbox_csv/original_boundingbox.csv",
])  # fmt: skip
def test_the_doctor_looks_again_when_a_table_comes_changes_or_goes(doctor_calls, name):
    paths, called = doctor_calls
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


def test_the_doctor_looks_again_at_what_was_prepared_anew_and_when_forced(doctor_calls, monkeypatch):
    paths, called = doctor_calls
    launch.run_doctor(smoke(), paths)
    write_json(paths.prepared_folder / "run.json", {"inputs": {"dicoms": "others"}})
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2
    monkeypatch.setenv("FORCE", "1")
    launch.run_doctor(smoke(), paths)
    assert len(called) == 3


def test_the_doctor_looks_again_when_its_code_changes(doctor_calls, monkeypatch):
    paths, called = doctor_calls
    launch.run_doctor(smoke(), paths)
    monkeypatch.setattr(launch, "reached_modules", lambda command: {command: "another"})
    launch.run_doctor(smoke(), paths)
    assert len(called) == 2


def test_found_boxes_are_not_the_doctors(doctor_calls):
    paths, called = doctor_calls
    launch.run_doctor(smoke(), paths)
    paths.editable_boxes_csv.parent.mkdir(parents=True)
    paths.editable_boxes_csv.touch()
    launch.run_doctor(smoke(), paths)
    assert len(called) == 1


def test_a_look_that_stops_the_run_is_done_again(doctor_calls, monkeypatch):
    paths, called = doctor_calls
    look = launch.jobs.run_module

    def stop(*arguments, accepted_codes):
        look(*arguments, accepted_codes)
        raise launch.jobs.ProcessFailure(3)

    monkeypatch.setattr(launch.jobs, "run_module", stop)
    for _ in range(2):
        with pytest.raises(launch.jobs.ProcessFailure):
            launch.run_doctor(smoke(), paths)
    assert len(called) == 2


def test_a_label_head_threshold_without_a_label_head_is_refused_before_any_work():
    recipe = recipes.read_recipe(ROOT / "recipes" / "nguyen.yaml").model_copy(update={"stage3": "amirassov"})
    with pytest.raises(UsageError, match=r"amirassov\.yaml: grid\.label_head_thresholds: no segmenter of nguyen"):
        launch.require_label_head(recipe)
    with_a_head = recipe.model_copy(update={"stage2": ["nguyen_resnet50", "amirassov_resnet34"]})
    launch.require_label_head(with_a_head)
    launch.require_label_head(recipes.read_recipe(ROOT / "recipes" / "amirassov.yaml"))
