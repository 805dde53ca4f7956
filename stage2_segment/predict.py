"""Write a segmenter's maps of the test images: the mean over the models of the folds.

python -m stage2_segment.predict --member unet_effb4_crop
"""

import argparse

from cxr.errors import UsageError, run_main
from cxr.paths import Paths
from cxr.plan import Unit, run
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from stage2_segment import config
from stage2_segment.train import open_data, write_maps


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.predict")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    asked = parser.parse_args()
    recipe, paths = chosen()
    for name in [asked.member] if asked.member else recipe.stage2:
        unit = config.test_unit(recipe, paths, name, config.with_weights(recipe, config.read(name)))
        run(unit, lambda _identity, _metrics, name=name, unit=unit: predict(unit, name, recipe, paths))


def predict(unit: Unit, name: str, recipe: Recipe, paths: Paths) -> None:
    """Average the folds' models image by image."""
    from cxr.torchkit.checkpoint import load_weights
    from cxr.torchkit.device import device
    from stage2_segment.models import Segmenter

    member = unit.config.member
    prepared = Prepared(paths.prepared, recipe.folds)
    data = open_data(prepared, paths, member, [], recipe.seed)
    models = []
    for fold in recipe.trained:
        file = paths.unit(2, name, fold) / "weights.safetensors"
        if not file.is_file():
            raise UsageError(f"{file} is missing; it is made by: stage2_segment.train --member {name} --fold {fold}")
        models.append(Segmenter(member))
        models[-1].load_state_dict(load_weights(file))
    write_maps(unit.folder, models, data, prepared.ids("test"), device())


if __name__ == "__main__":
    run_main(main)
