"""Before any work: can the recipe's detector be built, are its start weights here, and do they fit?

python -m stage0_bbox.check
python -m stage0_bbox.check --fetch    only fetch the hub's start weights; a file that the hub does not have is named
"""

import argparse

from cxr.errors import UsageError, run_main
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.training import start_weights
from stage0_bbox import config


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage0_bbox.check")
    parser.add_argument("--fetch", action="store_true", help="only fetch start weights")
    arguments = parser.parse_args()
    recipe, _ = load_recipe_and_paths(say=False)
    detector = config.apply_recipe_weights(recipe, config.read_detector_settings(recipe.stage0))
    if arguments.fetch:
        start_weights.resolve_or_report(ensure_start_weights, recipe, detector)
    else:
        check_detector(recipe, detector)


def check_detector(recipe: Recipe, detector: config.DetectorConfig) -> None:
    """UsageError that names the detector's file and what would fit, where the detector cannot be built."""
    ensure_start_weights(recipe, detector)
    from stage0_bbox.network import build_detector

    try:
        build_detector(detector)
    except UsageError as error:
        raise UsageError(f"{config.CONFIGS / recipe.stage0}.yaml: {error}") from None


def ensure_start_weights(recipe: Recipe, detector: config.DetectorConfig) -> None:
    """Have the start weights on this machine before any step; UsageError as for `check_detector`."""
    start = config.get_start_weights(detector)
    if not start_weights.list_missing_weights(start.input_files):  # then no framework is needed
        return
    from stage0_bbox.network import download_coco_weights

    try:
        start_weights.fetch_weights(start, download_coco_weights)
    except UsageError as error:
        raise type(error)(f"{config.CONFIGS / recipe.stage0}.yaml: weights: {error}") from None


if __name__ == "__main__":
    run_main(main)
