"""Can every classifier of the recipe be made, are its start weights here, and do they fit? Asked before any work.

python -m stage1_classify.check [--member effb4_crop]
python -m stage1_classify.check --fetch    only have the hub's start weights fetched; what it does not give is said
"""

import argparse
import importlib
import sys

from cxr import weights
from cxr.errors import UsageError, run_main
from cxr.recipe import chosen
from stage1_classify import config
from stage1_classify.config import ClassifierConfig
from stage1_classify.frameworks import own


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage1_classify.check")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fetch", action="store_true", help="only fetch start weights")
    asked = parser.parse_args()
    recipe, paths = chosen(say=False)
    members = config.members(recipe, [asked.member] if asked.member else None)
    if asked.fetch:
        members = dict({config.start(member): (name, member) for name, member in members.items()}.values())
    for name, member in own(members, "stage1_classify.check", sys.argv[1:]):
        if asked.fetch:
            weights.tell(resolve, name, member)
            continue
        check(name, member)
        for remark in weights.remarks(member, config.start(member), "backbone_args"):
            print(f"NOTE: {config.CONFIGS / name}.yaml: {remark}", flush=True)
        if member.input == "tfrecord" and not config.records(paths):
            raise UsageError(
                f"{config.CONFIGS / name}.yaml: input: tfrecord needs records in {paths.artifacts / 'export'}; they "
                "are made, once the data is prepared, by: python -m cxr.export --to tfrecord"
            )


def check(name: str, member: ClassifierConfig) -> None:
    """Raise UsageError that names the member's file, the key at fault, and what would fit."""
    resolve(name, member)
    try:
        _backend(member).check(member)
    except UsageError as error:
        raise UsageError(f"{config.CONFIGS / name}.yaml: {error}") from None


def resolve(name: str, member: ClassifierConfig) -> None:
    """Have a member's start weights on this machine before any unit; UsageError as for `check`."""
    start = config.start(member)
    if weights.lacking(start.inputs):  # else no framework is needed
        try:
            weights.fetch(start, _backend(member).download)
        except UsageError as error:
            raise type(error)(f"{config.CONFIGS / name}.yaml: weights: {error}") from None


def _backend(member: ClassifierConfig):
    return importlib.import_module(f"stage1_classify.{member.framework}_backend")


if __name__ == "__main__":
    run_main(main)
