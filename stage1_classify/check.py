"""Check, before any work, that every classifier can be built and that its start weights are here and fit.

python -m stage1_classify.check [--member effb4_crop]
python -m stage1_classify.check --fetch    only fetch the hub's start weights, and report what it does not have
"""

import argparse
import importlib
import sys

from cxr.errors import UsageError, run_main
from cxr.recipe import load_recipe_and_paths
from cxr.training import start_weights
from stage1_classify import config
from stage1_classify.config import ClassifierConfig
from stage1_classify.frameworks import dispatch_by_framework


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage1_classify.check")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fetch", action="store_true", help="only fetch start weights")
    arguments = parser.parse_args()
    recipe, paths = load_recipe_and_paths(say=False)
    members = config.read_members(recipe, [arguments.member] if arguments.member else None)
    if arguments.fetch:
        members = dict({config.get_start_weights(member): (name, member) for name, member in members.items()}.values())
    for name, member in dispatch_by_framework(members, "stage1_classify.check", sys.argv[1:]):
        if arguments.fetch:
            start_weights.resolve_or_report(ensure_start_weights, name, member)
            continue
        check_member(name, member)
        for remark in start_weights.list_input_conflicts(member, config.get_start_weights(member), "backbone_args"):
            print(f"NOTE: {config.CONFIGS / name}.yaml: {remark}", flush=True)
        if member.input == "tfrecord" and not config.find_record_files(paths):
            raise UsageError(
                f"{config.CONFIGS / name}.yaml: input: tfrecord needs records in {paths.artifacts_folder / 'export'}; "
                "they are made, once the data is prepared, by: python -m datatools.export --to tfrecord"
            )


def check_member(name: str, member: ClassifierConfig) -> None:
    """Raise UsageError that names the member's file, the key at fault, and what would fit."""
    ensure_start_weights(name, member)
    try:
        _import_backend(member).check_network(member)
    except UsageError as error:
        raise UsageError(f"{config.CONFIGS / name}.yaml: {error}") from None


def ensure_start_weights(name: str, member: ClassifierConfig) -> None:
    """Have a member's start weights on this machine before any step; UsageError as for `check_member`."""
    start = config.get_start_weights(member)
    if start_weights.list_missing_weights(start.input_files):  # else no framework is needed
        try:
            start_weights.fetch_weights(start, _import_backend(member).download_weights)
        except UsageError as error:
            raise type(error)(f"{config.CONFIGS / name}.yaml: weights: {error}") from None


def _import_backend(member: ClassifierConfig):
    return importlib.import_module(f"stage1_classify.{member.framework}_members.backend")


if __name__ == "__main__":
    run_main(main)
