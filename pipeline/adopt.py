"""Accept finished work as made by today's code and packages, after showing what differs.

python -m pipeline.adopt [prepare|stage0|stage1|stage2|stage3] [--dry-run]

It takes the last run, or that of RECIPE and DATA. Work made with other settings or from other files is not adopted, nor
is work whose files are missing or changed: these steps run again. --dry-run only shows what would be adopted. The
step's run.json records the date and what the work was made by.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from cxr import runs
from cxr.datasets import kaggle
from cxr.errors import run_main
from cxr.files import write_json
from cxr.paths import Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.step import Step
from pipeline.stages import STAGE_PACKAGES, list_steps
from prepare.steps import PrepareConfig, identify_folds, identify_pixels

STAGES = ("prepare", *STAGE_PACKAGES)


@dataclass(frozen=True)
class AdoptionCandidate:
    """A step of a run: its folder, and what it would be made from today."""

    name: str
    folder: Path
    identity: runs.Identity

    @classmethod
    def from_step(cls, step: Step) -> "AdoptionCandidate":
        return cls(step.name, step.folder, step.identity)

    @property
    def run_record(self) -> dict | None:
        """Its run.json; None where it is not finished."""
        return runs.read_run_record(self.folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.adopt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", nargs="?", choices=STAGES, help="only this one; by default all")
    parser.add_argument("--dry-run", action="store_true", help="show what would be adopted, and change nothing")
    arguments = parser.parse_args()
    recipe, paths = load_recipe_and_paths()
    stages = [arguments.stage] if arguments.stage else STAGES
    were_adopted = [
        adopt_candidate(candidate, arguments.dry_run)
        for stage in stages
        for candidate in list_candidates(stage, recipe, paths)
    ]
    if not any(were_adopted):
        print("nothing to adopt")


def list_candidates(stage: str, recipe: Recipe, paths: Paths) -> list[AdoptionCandidate]:
    """The steps of a stage, each after the substeps that its command makes."""
    if stage == "prepare":
        return list_prepare_candidates(recipe, paths)
    return [
        AdoptionCandidate.from_step(substep)
        for step in list_steps(stage, recipe, paths)
        for substep in (*step.substeps, step)
    ]


def list_prepare_candidates(recipe: Recipe, paths: Paths) -> list[AdoptionCandidate]:
    """Pixels and folds; UsageError where there is no data folder."""
    values = {"size": recipe.prepared_size, "folds": recipe.folds, "subfolds": recipe.subfolds, "seed": recipe.seed}
    config, folds_folder = PrepareConfig(**values, val_share=recipe.val_share), paths.folds_csv.parent
    pixel_identity = identify_pixels(kaggle.find_layout(paths.data_folder), paths, config)
    return [
        AdoptionCandidate("prepare", paths.prepared_folder, pixel_identity),
        AdoptionCandidate("folds", folds_folder, identify_folds(paths, config)),
    ]


def adopt_candidate(candidate: AdoptionCandidate, dry_run: bool = False) -> bool:
    """Adopt a step's work and print what differs; returns False, and prints why, where it cannot or need not be."""
    if candidate.run_record is None:
        has_record_file = (candidate.folder / "run.json").is_file()
        reason = "its run.json is damaged or of an earlier version" if has_record_file else "not finished"
        print(f"{candidate.name}: {reason}, so nothing to adopt")
        return False
    allowed_changes = list_allowed_changes(candidate.run_record, candidate.identity)
    refused_changes = list_refused_changes(candidate)
    if refused_changes:
        print(f"{candidate.name}: stays to be made anew: {'; '.join(refused_changes)}")
    elif not allowed_changes:
        print(f"{candidate.name}: up to date")
    else:
        print(f"{candidate.name}: {'would be ' if dry_run else ''}adopted: {'; '.join(allowed_changes)}")
        if not dry_run:
            record_adoption(candidate)
    return bool(allowed_changes and not refused_changes)


def list_allowed_changes(record: dict, identity: runs.Identity) -> list[str]:
    """Changes that adopted work may have: in modules and in package versions, with the commits of both."""
    modules = find_changes(record.get("source"), identity.source)
    packages = find_changes(record.get("versions"), runs.package_versions())
    differences = [f"code of {', '.join(modules)}"] if modules else []
    differences += [f"{name} {format_value(old)} -> {format_value(new)}" for name, (old, new) in packages.items()]
    old, new = record.get("commit"), runs.git_commit()
    if differences and old != new:
        differences.append(f"commit {format_value(old)[:9]} -> {format_value(new)[:9]}")
    return differences


def list_refused_changes(candidate: AdoptionCandidate) -> list[str]:
    """Changes that adopted work may not have: in settings, in inputs, and in the files that it wrote."""
    record = candidate.run_record
    current_settings = json.loads(json.dumps(candidate.identity.settings, default=str))  # as run.json holds them
    changed_settings = find_changes(flatten_settings(record.get("config")), flatten_settings(current_settings))
    changed_inputs = find_changes(record.get("inputs"), candidate.identity.inputs)
    problems = [
        f"setting {name}: {format_value(old)} -> {format_value(new)}" for name, (old, new) in changed_settings.items()
    ]
    problems += [f"other input {name}" for name in changed_inputs]
    return problems + [f"{name} is missing or changed" for name in runs.list_altered_outputs(candidate.folder, record)]


def find_changes(old: object, new: dict) -> dict[str, tuple]:
    """The keys whose values differ: (old value, new value) by key, None where one has no such key."""
    old = old if isinstance(old, dict) else {}
    return {key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)}  # fmt: skip


def flatten_settings(values: object, prefix: str = "") -> dict[str, object]:
    """Nested settings under dotted keys."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    flat_settings: dict[str, object] = {}
    for key, value in values.items():
        flat_settings |= flatten_settings(value, f"{prefix}.{key}" if prefix else key)
    return flat_settings


def format_value(value: object) -> str:
    return "none" if value is None else str(value)


def record_adoption(candidate: AdoptionCandidate) -> None:
    """Write today's fingerprint, code and versions into the step's run.json, with the date and the former ones."""
    with runs.lock_folder(candidate.folder):
        record = candidate.run_record
        previous = {key: record.get(key) for key in ("fingerprint", "commit", "versions", "source")}
        current = {"fingerprint": candidate.identity.fingerprint, "source": candidate.identity.source}
        current |= {"commit": runs.git_commit(), "versions": runs.package_versions()}
        history = [*record.get("adopted", []), {"date": time.strftime("%Y-%m-%d"), "from": previous}]
        write_json(candidate.folder / "run.json", record | current | {"adopted": history})


if __name__ == "__main__":
    run_main(main)
