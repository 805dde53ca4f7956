"""Find the chest in every image again, with the weights that are stored, and write the boxes.

python -m stage0_bbox.predict [--margin 0.03 ...]
"""

from cxr import runs
from cxr.errors import run_main
from stage0_bbox import config
from stage0_bbox.train import Stage, detect, open_stage, write_boxes


def main() -> None:
    stage = open_stage("stage0_bbox.predict")
    unit, detect_unit = config.unit(stage.recipe, stage.paths, stage.detector), stage.detect_unit
    runs.require_whole(detect_unit.inputs)
    with detect_unit.recorded(detect_unit.identity):
        detect(stage, detect_unit)
    with unit.recorded(unit.identity) as metrics:
        write_boxes(stage, unit, metrics)
    if not trained_alike(stage):
        (unit.folder / "run.json").unlink()
        print(f"{unit.name}: the weights are of other settings or data: the next training run makes them anew")


def trained_alike(stage: Stage) -> bool:
    """Whether the stored weights are what a training would make now."""
    units = [stage.fit_unit(fold) for fold in stage.folds]
    return all(runs.is_made(unit.folder, unit.identity) for unit in units)


if __name__ == "__main__":
    run_main(main)
