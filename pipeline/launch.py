"""One step of run_all.sh, in processes of its own; what is up to date is not done again.

python -m pipeline.launch phantom|prepare|doctor|plan|stage0|stage1|stage2|stage3|table|report
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import stage0_bbox.config
import stage2_segment.config
import stage3_stack.config
from cxr import runs
from cxr.errors import DataError, UsageError, run_main
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths
from cxr.recipe import Recipe, chosen
from cxr.source_code import reached_modules
from phantom.config import SMOKE, default_config
from pipeline import closing, jobs, plan, starts
from pipeline.choose import phantoms
from pipeline.devices import gpus
from pipeline.stages import ROOMS, units

CHECKED = ("stage1", "stage2")  # have a module check
GOES_ON = (0, 4)  # exit codes of the doctor: notes, or warnings
DOCTORS = ("data", "summary", "exit_code", "counts", "findings", "prevalence")  # what the report takes of doctor.json


def main() -> None:
    steps = {
        "phantom": make_phantoms, "prepare": prepare, "doctor": examine, "plan": make_plan,
        "table": table, "report": closing.show,
    }  # fmt: skip
    if len(sys.argv) != 2 or sys.argv[1] not in (*steps, *ROOMS):
        raise UsageError(f"usage: python -m pipeline.launch {'|'.join([*steps, *ROOMS])}")
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    if os.environ.get("RUN_BEGAN"):  # run_all.sh waits for us: where it is killed, there is no one to go on for
        jobs.die_with_parent()
    recipe, paths = chosen()
    step = sys.argv[1]
    if step in ROOMS:
        run_stage(step, recipe, paths)
    else:
        steps[step](recipe, paths)


def run_stage(stage: str, recipe: Recipe, paths: Paths) -> None:
    """Run the units of a stage that are not up to date."""
    found = units(stage, recipe, paths)
    if all(unit.current for unit in found):
        print("\n".join(f"{unit.name}: up to date" for unit in found))
        return
    if recipe.small:  # units of seconds: starting a process for each would take longer than all of them
        for module in dict.fromkeys(unit.command[0] for unit in found):
            jobs.call(stage, (module,))
        return
    names = list(ROOMS)
    later = [unit for name in names[names.index(stage) + 1 :] for unit in units(name, recipe, paths)]
    jobs.Jobs(found, later, paths, list(gpus())).run()


def make_phantoms(recipe: Recipe, paths: Paths) -> None:
    """The project's own phantoms, where the run is on them and they are not there or were made otherwise."""
    if paths.data != phantoms():
        print("phantoms: not needed")
        return
    folder = paths.data
    folder.parent.mkdir(parents=True, exist_ok=True)
    with runs.locked(folder.parent):
        own = SMOKE if os.environ.get("SMOKE") == "1" else {}
        settings = default_config().model_dump(mode="json") | own
        note = folder.with_name(f"{folder.name}.files.json")
        whole = read_json(note) == _sizes(folder)
        if whole and (read_json(folder / "phantom.json") or {}).get("config") == settings:
            print(f"phantoms: up to date in {folder}")
            return
        shutil.rmtree(folder, ignore_errors=True)
        options = [part for key, value in own.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        jobs.call("phantoms", ("phantom.make", str(folder), *options))
        write_json(note, _sizes(folder))


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of all files of a folder, by their names as seen from it."""
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def make_plan(recipe: Recipe, paths: Paths) -> None:
    """Have the start weights, say what is to be done, and ask the stages whether their members can be made at all."""
    label_gate_has_a_head(recipe)
    starts.resolve(recipe, paths)
    for stage in plan.show(recipe, paths):
        if stage in CHECKED and not recipe.small:  # a trial builds them all within a minute
            jobs.call(f"check of {stage}", (f"{ROOMS[stage]}.check",))


def label_gate_has_a_head(recipe: Recipe) -> None:
    """Stages do not read each other's settings, so this is asked here: UsageError where no head could open the gate."""
    gates = stage3_stack.config.read(recipe).grid.label_gates if recipe.stage2 else [0]
    if min(gates) > 0 and not any(m.label_head for m in stage2_segment.config.members(recipe).values()):
        raise UsageError(
            f"{stage3_stack.config.CONFIGS / recipe.stage3}.yaml: grid.label_gates: no segmenter of {recipe.name} has "
            "a label_head to pass the gate; take 0 into the list, or a member with one (amirassov_resnet34 has)"
        )


def prepare(recipe: Recipe, paths: Paths) -> None:
    """DICOM to pixels, masks, manifest and folds; it knows itself what is up to date."""
    numbers = {"size": recipe.prepared_size, "folds": recipe.folds, "subfolds": recipe.subfolds, "seed": recipe.seed}
    numbers |= {"val-share": recipe.val_share, "run": paths.recipe}
    options = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
    try:
        jobs.call("prepare", ("cxr.prepare", "--data", str(paths.data), *options))
    except jobs.Failed as failed:
        if failed.code == DataError.exit_code:
            command = jobs.by_hand(("cxr.doctor", str(paths.data)))
            print(f"the doctor lists all that is wrong with the data at once:\n  {command}", file=sys.stderr)
        raise


def examine(recipe: Recipe, paths: Paths) -> None:
    """Have the doctor look at the data as it was prepared.

    His warnings are for the user to weigh, and the run goes on; it ends where he says that it would stop.
    """
    folder, material, said = paths.artifacts / "doctor", _looked_at(recipe, paths), _said(paths)
    if said and runs.is_current(folder, material):
        print(f"doctor: up to date; {said['summary']}")
        return
    outputs = [paths.artifacts / name for name in ("doctor.json", "doctor.html")]
    with runs.recorded(folder, material, outputs=outputs, command=("cxr.doctor",)):
        jobs.call("doctor", ("cxr.doctor", str(paths.data), "--brief"), fine=GOES_ON)


def _looked_at(recipe: Recipe, paths: Paths) -> runs.Identity:
    """What the doctor's words are made from: what prepare took, the tables beside it, the boxes, and his own source."""
    folders = (paths.data, paths.data / "boundingbox_csv")
    tables = {path for folder in folders for kind in ("*.csv", "*.json") for path in folder.glob(kind)}
    tables |= set(stage0_bbox.config.label_files(paths, stage0_bbox.config.read(recipe.stage0)))
    tables |= {ROOT / "cxr" / "doctor" / name for name in ("catalogue.yaml", "page.html")}
    prepared = (read_json(paths.prepared / "run.json") or {}).get("inputs", {})
    inputs = {"prepared": prepared, "tables": runs.input_digests(sorted(tables), paths.artifacts / "doctor")}
    return runs.Identity({}, inputs, reached_modules("cxr.doctor"))


def _said(paths: Paths) -> dict | None:
    """What the doctor said of this data folder; None where it is damaged, of an earlier kind, or against a run."""
    said = read_json(paths.artifacts / "doctor.json")
    if said is None or not set(DOCTORS) <= said.keys() or said["exit_code"] not in GOES_ON:
        return None
    return said if said["data"] == str(paths.data) else None


def table(_recipe: Recipe, _paths: Paths) -> None:
    """The closing table, from what stage 3 measured."""
    jobs.call("table", ("stage3_stack.table",))


def _stop(number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_main(main)
