"""Accept finished work as made by today's code and packages, after showing what differs.

python -m pipeline.adopt [prepare|stage0|stage1|stage2|stage3] [--dry-run]

Of the last run, or of RECIPE and DATA. What was made with other settings or from other files stays to be made anew,
and so does what is not whole. --dry-run shows what would be adopted. What was adopted, when, and what made it, stands
in its run.json.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from cxr import kaggle, runs
from cxr.errors import run_main
from cxr.files import write_json
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.prepare import PrepareConfig, folds_identity, pixels_identity
from cxr.recipe import Recipe, chosen
from pipeline.stages import ROOMS, units

STAGES = ("prepare", *ROOMS)


@dataclass(frozen=True)
class Step:
    """A step of a run, what it would be made from today, and its record; None where it is not finished."""

    name: str
    folder: Path
    identity: runs.Identity

    @classmethod
    def of(cls, unit: Unit) -> "Step":
        return cls(unit.name, unit.folder, unit.identity)

    @property
    def record(self) -> dict | None:
        return runs.read_record(self.folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.adopt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", nargs="?", choices=STAGES, help="this one alone; all by default")
    parser.add_argument("--dry-run", action="store_true", help="show what would be adopted, and change nothing")
    asked = parser.parse_args()
    recipe, paths = chosen()
    stages = [asked.stage] if asked.stage else STAGES
    adopted = [adopt(step, asked.dry_run) for stage in stages for step in steps(stage, recipe, paths)]
    if not any(adopted):
        print("nothing to adopt")


def steps(stage: str, recipe: Recipe, paths: Paths) -> list[Step]:
    """The steps of a stage, those among them that a unit makes on its way."""
    if stage == "prepare":
        return prepare_steps(recipe, paths)
    return [Step.of(each) for unit in units(stage, recipe, paths) for each in (*unit.parts, unit)]


def prepare_steps(recipe: Recipe, paths: Paths) -> list[Step]:
    """Pixels and folds; UsageError where there is no data folder."""
    numbers = {"size": recipe.prepared_size, "folds": recipe.folds, "subfolds": recipe.subfolds, "seed": recipe.seed}
    config, folds = PrepareConfig(**numbers, val_share=recipe.val_share), paths.folds.parent
    pixels = pixels_identity(kaggle.find(paths.data), paths, config)
    return [Step("prepare", paths.prepared, pixels), Step("folds", folds, folds_identity(paths, config))]


def adopt(step: Step, dry_run: bool = False) -> bool:
    """Take a step's work as made today, and say what differs; False, and why, where it cannot be or need not be."""
    if step.record is None:
        older = (step.folder / "run.json").is_file()
        reason = "its run.json is damaged or of an earlier version" if older else "not finished"
        print(f"{step.name}: {reason}, so nothing to adopt")
        return False
    allowed, refused = differences(step.record, step.identity), obstacles(step)
    if refused:
        print(f"{step.name}: stays to be made anew: {'; '.join(refused)}")
    elif not allowed:
        print(f"{step.name}: up to date")
    else:
        print(f"{step.name}: {'would be ' if dry_run else ''}adopted: {'; '.join(allowed)}")
        if not dry_run:
            note(step)
    return bool(allowed and not refused)


def differences(record: dict, identity: runs.Identity) -> list[str]:
    """What may differ of adopted work: modules and package versions; with the commits that they were of."""
    modules = changes(record.get("source"), identity.source)
    packages = changes(record.get("versions"), runs.versions())
    found = [f"code of {', '.join(modules)}"] if modules else []
    found += [f"{name} {told(then)} -> {told(now)}" for name, (then, now) in packages.items()]
    then, now = record.get("commit"), runs.commit()
    return [*found, f"commit {told(then)[:9]} -> {told(now)[:9]}"] if found and then != now else found


def obstacles(step: Step) -> list[str]:
    """What may not differ: settings, inputs, and what was written."""
    record, plain = step.record, json.loads(json.dumps(step.identity.config, default=str))
    settings = changes(flat(record.get("config")), flat(plain))
    inputs = changes(record.get("inputs"), step.identity.inputs)
    found = [f"setting {name}: {told(then)} -> {told(now)}" for name, (then, now) in settings.items()]
    found += [f"other input {name}" for name in inputs]
    return found + [f"{name} is missing or changed" for name in runs.altered(step.folder, record)]


def changes(then: object, now: dict) -> dict[str, tuple]:
    """What is not the same in both, by key: the value then, and now."""
    then = then if isinstance(then, dict) else {}
    return {key: (then.get(key), now.get(key)) for key in sorted(then.keys() | now.keys())
            if then.get(key) != now.get(key)}  # fmt: skip


def flat(values: object, above: str = "") -> dict[str, object]:
    """Nested settings under dotted keys."""
    if not isinstance(values, dict) or not values:
        return {above: values}
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= flat(value, f"{above}.{key}" if above else key)
    return found


def told(value: object) -> str:
    return "none" if value is None else str(value)


def note(step: Step) -> None:
    """Write in the step's run.json that it was adopted, and what it had been until then."""
    with runs.locked(step.folder):
        record = step.record
        before = {key: record.get(key) for key in ("fingerprint", "commit", "versions", "source")}
        today = {"fingerprint": step.identity.hash, "source": step.identity.source}
        today |= {"commit": runs.commit(), "versions": runs.versions()}
        history = [*record.get("adopted", []), {"date": time.strftime("%Y-%m-%d"), "from": before}]
        write_json(step.folder / "run.json", record | today | {"adopted": history})


if __name__ == "__main__":
    run_main(main)
