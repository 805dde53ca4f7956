"""Before any work: can the recipe's detector be made, are its start weights here, and do they fit?

python -m stage0_bbox.check
python -m stage0_bbox.check --fetch    only have the hub's start weights fetched; what it does not give is said
"""

import argparse

from cxr import weights
from cxr.errors import UsageError, run_main
from cxr.recipe import Recipe, chosen
from stage0_bbox import config


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage0_bbox.check")
    parser.add_argument("--fetch", action="store_true", help="only fetch start weights")
    asked = parser.parse_args()
    recipe, _ = chosen(say=False)
    detector = config.with_weights(recipe, config.read(recipe.stage0))
    if asked.fetch:
        weights.tell(resolve, recipe, detector)
    else:
        check(recipe, detector)


def check(recipe: Recipe, detector: config.Config) -> None:
    """UsageError that names the detector's file and what would fit, where it cannot be made as its settings say."""
    resolve(recipe, detector)
    from stage0_bbox.model import build

    try:
        build(detector)
    except UsageError as error:
        raise UsageError(f"{config.CONFIGS / recipe.stage0}.yaml: {error}") from None


def resolve(recipe: Recipe, detector: config.Config) -> None:
    """Have the start weights on this machine before any unit; UsageError as for `check`."""
    start = config.start(detector)
    if not weights.lacking(start.inputs):  # then no framework is needed
        return
    from stage0_bbox.model import download

    try:
        weights.fetch(start, download)
    except UsageError as error:
        raise type(error)(f"{config.CONFIGS / recipe.stage0}.yaml: weights: {error}") from None


if __name__ == "__main__":
    run_main(main)
