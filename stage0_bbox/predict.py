"""Find the chest in every image again, with the stored weights, and write the boxes.

python -m stage0_bbox.predict [--margin 0.03 ...]
"""

from cxr import runs
from cxr.errors import run_main
from stage0_bbox import config
from stage0_bbox.train import Stage, detect_boxes, open_stage, write_boxes


def main() -> None:
    stage = open_stage("stage0_bbox.predict")
    step, detect_step = config.build_box_step(stage.recipe, stage.paths, stage.detector), stage.detect_step
    runs.require_unaltered(detect_step.inputs)
    with detect_step.record_run(detect_step.identity):
        detect_boxes(stage, detect_step)
    with step.record_run(step.identity) as metrics:
        write_boxes(stage, step, metrics)
    if not has_current_weights(stage):
        (step.folder / "run.json").unlink()
        print(f"{step.name}: the weights were trained with other settings or data; the next training run replaces them")


def has_current_weights(stage: Stage) -> bool:
    """Whether the stored weights are up to date with settings, data and code."""
    fit_steps = [stage.fit_step(fold) for fold in stage.folds]
    return all(runs.matches_identity(step.folder, step.identity) for step in fit_steps)


if __name__ == "__main__":
    run_main(main)
