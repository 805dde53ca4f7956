"""Run one step of run_all.sh, in processes of its own; what is up to date is not run again.

python -m pipeline.launch phantom|prepare|doctor|plan|stage0|stage1|stage2|stage3|table|report
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import stage0_bbox.config
import stage1_classify.config
import stage2_segment.config
import stage3_stack.config
from cxr import runs
from cxr.errors import DataError, UsageError, run_main
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.source_code import reached_modules
from phantom.config import SMOKE, default_config
from pipeline import closing_message, jobs, plan, start_weights
from pipeline.choose import locate_phantoms
from pipeline.devices import list_gpus
from pipeline.run_files import read_doctor_record, read_step_record
from pipeline.stages import STAGE_PACKAGES, list_steps

STAGES_WITH_CHECK = ("stage1", "stage2")  # those with a module check.py
RECORD_WRITERS = ("datatools.export.tfrecord",)  # modules that the export chooses as it runs
CONTINUE_EXIT_CODES = (0, 4)  # of the data check, after which a run goes on: notes, or warnings
DOCTOR_KEYS = ("data", "summary", "exit_code", "counts", "findings", "prevalence")
"""Keys of doctor.json that the report reads."""


def main() -> None:
    step_functions = {
        "phantom": make_phantoms, "prepare": prepare_data, "doctor": run_doctor, "plan": make_plan,
        "table": print_results_table, "report": closing_message.finish_run,
    }  # fmt: skip
    if len(sys.argv) != 2 or sys.argv[1] not in (*step_functions, *STAGE_PACKAGES):
        raise UsageError(f"usage: python -m pipeline.launch {'|'.join([*step_functions, *STAGE_PACKAGES])}")
    signal.signal(signal.SIGTERM, _raise_interrupt)
    signal.signal(signal.SIGHUP, _raise_interrupt)
    if os.environ.get("RUN_BEGAN"):  # if run_all.sh is killed while it waits for us, end too
        jobs.die_with_parent()
    recipe, paths = load_recipe_and_paths()
    step_name = sys.argv[1]
    if step_name in STAGE_PACKAGES:
        run_stage(step_name, recipe, paths)
    else:
        step_functions[step_name](recipe, paths)


def run_stage(stage: str, recipe: Recipe, paths: Paths) -> None:
    """Run the steps of a stage that are not up to date."""
    steps = list_steps(stage, recipe, paths)
    if all(step.is_up_to_date for step in steps):
        print("\n".join(f"{step.name}: up to date" for step in steps))
        return
    if recipe.small:  # steps of seconds: starting a process for each would take longer than all of them
        for module in dict.fromkeys(step.command[0] for step in steps):
            jobs.run_module(stage, (module,))
        return
    stage_names = list(STAGE_PACKAGES)
    later_steps = [
        step for name in stage_names[stage_names.index(stage) + 1 :] for step in list_steps(name, recipe, paths)
    ]
    jobs.JobRunner(steps, later_steps, list(list_gpus())).run_all()


def make_phantoms(recipe: Recipe, paths: Paths) -> None:
    """Make the phantoms if the run is on them and they are missing or were made with other settings."""
    if paths.data_folder != locate_phantoms():
        print("phantoms: not needed")
        return
    folder = paths.data_folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with runs.lock_folder(folder.parent):
        overrides = SMOKE if os.environ.get("SMOKE") == "1" else {}
        settings = default_config().model_dump(mode="json") | overrides
        sizes_file = folder.with_name(f"{folder.name}.files.json")
        is_whole = read_json(sizes_file) == _measure_file_sizes(folder)
        if is_whole and (read_json(folder / "phantom.json") or {}).get("config") == settings:
            print(f"phantoms: up to date in {folder}")
            return
        shutil.rmtree(folder, ignore_errors=True)
        options = [part for key, value in overrides.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        jobs.run_module("phantoms", ("phantom.make", str(folder), *options))
        write_json(sizes_file, _measure_file_sizes(folder))


def _measure_file_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder, by its path relative to the folder."""
    files = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def make_plan(recipe: Recipe, paths: Paths) -> None:
    """Fetch start weights, print the plan, and let the stages check that their members can be built."""
    require_label_head(recipe)
    start_weights.resolve_start_weights(recipe, paths)
    for stage in plan.print_plan(recipe, paths):
        if stage in STAGES_WITH_CHECK and not recipe.small:  # a trial builds them all within a minute
            jobs.run_module(f"check of {stage}", (f"{STAGE_PACKAGES[stage]}.check",))


def require_label_head(recipe: Recipe) -> None:
    """Check that a segmenter has a label head, if stage 3's label_head_thresholds need one; else raise UsageError.

    It is checked here because stages do not read each other's settings.
    """
    if not recipe.stage2:
        return
    head_thresholds = stage3_stack.config.read_stack_settings(recipe).grid.label_head_thresholds
    if min(head_thresholds) > 0 and not any(m.label_head for m in stage2_segment.config.read_members(recipe).values()):
        raise UsageError(
            f"{stage3_stack.config.CONFIGS / recipe.stage3}.yaml: grid.label_head_thresholds: no segmenter of "
            f"{recipe.name} has a label_head to reach them; add 0 to the list, or a member with a label head "
            "(amirassov_resnet34 has)"
        )


def prepare_data(recipe: Recipe, paths: Paths) -> None:
    """Turn DICOM into pixels, masks, manifest and folds; the command itself skips what is up to date."""
    values = {"size": recipe.prepared_size, "folds": recipe.folds, "subfolds": recipe.subfolds, "seed": recipe.seed}
    values |= {"val-share": recipe.val_share, "run": paths.recipe_name}
    options = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    try:
        jobs.run_module("prepare", ("prepare", "--data", str(paths.data_folder), *options))
    except jobs.ProcessFailure as failure:
        if failure.code == DataError.exit_code:
            command = jobs.format_shell_command(("datatools.doctor", str(paths.data_folder)))
            print(f"the doctor lists all that is wrong with the data at once:\n  {command}", file=sys.stderr)
        raise
    if any(member.input == "tfrecord" for member in stage1_classify.config.read_members(recipe).values()):
        export_records(paths)


def export_records(paths: Paths) -> None:
    """TFRecords for the members that train from them, unless those of the run's prepared data and folds are there."""
    folder = paths.artifacts_folder / "records"
    export_folder = paths.artifacts_folder / "export" / "tfrecord"
    inputs = [paths.prepared_folder / "manifest.parquet", paths.prepared_folder / "pixels.npy", paths.folds_csv]
    source = reached_modules("datatools.export", RECORD_WRITERS)
    identity = runs.Identity({}, runs.digest_inputs(inputs, folder), source)
    if runs.is_up_to_date(folder, identity):
        print("records: up to date")
        return
    outputs: list[Path] = []  # their names hold counts that the export alone knows
    with runs.record_run(folder, identity, outputs=outputs, command=("datatools.export", "--to", "tfrecord")):
        jobs.run_module("records", ("datatools.export", "--to", "tfrecord"))
        outputs += sorted(export_folder.glob("*.tfrec"))


def run_doctor(recipe: Recipe, paths: Paths) -> None:
    """Run the data check on the prepared data. Warnings let the run go on; errors end it."""
    folder, identity = paths.artifacts_folder / "doctor", _doctor_identity(recipe, paths)
    doctor_record = _read_current_doctor_record(paths)
    if doctor_record and runs.is_up_to_date(folder, identity):
        print(f"doctor: up to date; {doctor_record['summary']}")
        return
    outputs = [paths.artifacts_folder / name for name in ("doctor.json", "doctor.html")]
    with runs.record_run(folder, identity, outputs=outputs, command=("datatools.doctor",)):
        command = ("datatools.doctor", str(paths.data_folder), "--brief")
        jobs.run_module("doctor", command, accepted_codes=CONTINUE_EXIT_CODES)


def _doctor_identity(recipe: Recipe, paths: Paths) -> runs.Identity:
    """What the data check depends on: the prepared files, the tables of the data, hand-drawn boxes, and its code."""
    folders = (paths.data_folder, paths.data_folder / "boundingbox_csv")
    table_paths = {path for folder in folders for pattern in ("*.csv", "*.json") for path in folder.glob(pattern)}
    detector = stage0_bbox.config.read_detector_settings(recipe.stage0)
    table_paths |= set(stage0_bbox.config.find_label_files(paths, detector))
    table_paths |= {ROOT / "datatools" / "doctor" / name for name in ("catalogue.yaml", "page.html")}
    prepared_inputs = read_step_record(paths.prepared_folder).get("inputs", {})
    inputs = {
        "prepared": prepared_inputs,
        "tables": runs.digest_inputs(sorted(table_paths), paths.artifacts_folder / "doctor"),
    }
    return runs.Identity({}, inputs, reached_modules("datatools.doctor"))


def _read_current_doctor_record(paths: Paths) -> dict | None:
    """doctor.json of this data folder; None where it is missing, damaged, of an earlier version, or reports errors."""
    doctor_record = read_doctor_record(paths)
    if doctor_record is None or not set(DOCTOR_KEYS) <= doctor_record.keys():
        return None
    may_continue = doctor_record["exit_code"] in CONTINUE_EXIT_CODES
    return doctor_record if may_continue and doctor_record["data"] == str(paths.data_folder) else None


def print_results_table(_recipe: Recipe, _paths: Paths) -> None:
    """Print the closing table of stage 3's metrics."""
    jobs.run_module("table", ("stage3_stack.results.table",))


def _raise_interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_main(main)
