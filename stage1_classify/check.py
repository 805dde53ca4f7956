"""Can every classifier of the recipe be made, and do its start weights fit? Asked before any work.

python -m stage1_classify.check [--member effb4_crop]
"""

import argparse
import importlib
import sys

from cxr.errors import UsageError, run_main
from cxr.recipe import chosen
from stage1_classify import config
from stage1_classify.config import ClassifierConfig
from stage1_classify.frameworks import own


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage1_classify.check")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    asked = parser.parse_args()
    recipe, paths = chosen(say=False)
    members = config.members(recipe, [asked.member] if asked.member else None)
    for name, member in own(members, "stage1_classify.check", sys.argv[1:]):
        check(name, member)
        if member.input == "tfrecord" and not config.records(paths):
            raise UsageError(
                f"{config.CONFIGS / name}.yaml: input: tfrecord needs records in {paths.artifacts / 'export'}; they "
                "are made, once the data is prepared, by: python -m cxr.export --to tfrecord"
            )


def check(name: str, member: ClassifierConfig) -> None:
    """Raise UsageError that names the member's file, the key at fault, and what would fit."""
    backend = importlib.import_module(f"stage1_classify.{member.framework}_backend")
    try:
        backend.check(member)
    except UsageError as error:
        raise UsageError(f"{config.CONFIGS / name}.yaml: {error}") from None


if __name__ == "__main__":
    run_main(main)
