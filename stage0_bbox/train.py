"""Train the detectors of the cross-validation, find the chest in every image, and write the boxes.

python -m stage0_bbox.train [--margin 0.03 --training.epochs 5 ...]
"""

import sys
from functools import cached_property

from cxr.config import override_settings
from cxr.datasets.prepared import Prepared
from cxr.errors import run_main
from cxr.paths import Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.step import Step, run_step
from cxr.training import start_weights
from stage0_bbox import box_edits, check, config


class Stage:
    """Stage 0 of one recipe on one dataset: what its steps share, each part loaded when it is first used."""

    def __init__(self, recipe: Recipe, paths: Paths, detector: config.DetectorConfig) -> None:
        self.recipe, self.paths, self.detector = recipe, paths, detector

    @cached_property
    def prepared(self) -> Prepared:
        return Prepared(self.paths.prepared_folder, self.paths.folds_csv)

    @cached_property
    def labels(self):
        """The boxes to learn from; prints once how many rows were left out."""
        from stage0_bbox.labels import collect_labels

        files = config.find_label_files(self.paths, self.detector)
        labels = collect_labels(files, self.detector.labels[0], self.prepared.manifest)
        for reason, count in labels.skipped_rows.items():
            print(f"stage 0: {count} rows {reason} are left out")
        print(f"stage 0: {len(labels.hand_boxes)} hand boxes, {len(labels.weak_boxes)} weak ones")
        return labels

    @cached_property
    def fold_by_image(self) -> dict[str, int]:
        """For each boxed image, the model that is trained without it and its patient."""
        from stage0_bbox.data import assign_folds

        return assign_folds(self.prepared, list(self.labels.boxes), self.detector.cross_validation)

    def build_box_data(self, fold: int | None = None):
        """The examples of a model; without `fold`, for inference alone."""
        from stage0_bbox.data import BoxData

        boxes = {} if fold is None else self.labels.boxes
        training_boxes = {key: box for key, box in boxes.items() if self.fold_by_image[key] != fold}
        return BoxData(self.prepared, training_boxes, self.detector, self.recipe.seed)

    def fit_step(self, fold: int) -> Step:
        return config.build_fit_step(self.recipe, self.paths, self.detector, fold)

    @property
    def detect_step(self) -> Step:
        return config.build_detect_step(self.recipe, self.paths, self.detector)

    @property
    def folds(self) -> range:
        return range(self.detector.cross_validation)


def main() -> None:
    stage = open_stage("stage0_bbox.train")
    check.ensure_start_weights(stage.recipe, stage.detector)
    step = config.build_box_step(stage.recipe, stage.paths, stage.detector)
    run_step(step, lambda _identity, metrics: run_stage_steps(stage, step, metrics))


def open_stage(prog: str) -> Stage:
    """The stage of this command: its recipe and dataset, and the settings overridden on the command line."""
    recipe, paths = load_recipe_and_paths()
    detector = config.apply_recipe_weights(recipe, config.read_detector_settings(recipe.stage0))
    return Stage(recipe, paths, override_settings(detector, sys.argv[1:], prog))


def run_stage_steps(stage: Stage, step: Step, metrics: dict) -> None:
    """Run every step of the stage that is not up to date; `metrics` is filled with those of the boxes."""
    for fold in stage.folds:
        _run_fit_step(stage, stage.fit_step(fold), fold)
    detect_step = stage.detect_step
    run_step(detect_step, lambda _identity, _metrics: detect_boxes(stage, detect_step))
    write_boxes(stage, step, metrics)


def _run_fit_step(stage: Stage, step: Step, fold: int) -> None:
    run_step(step, lambda identity, metrics: metrics.update(fit_detector(stage, step, fold, identity)))


def fit_detector(stage: Stage, step: Step, fold: int, identity: str) -> dict:
    """Train one model, from its checkpoint if there is one, and write its weights into the step's folder.

    stage: data, labels and settings
    step: of config.build_fit_step
    fold: the held-out fold, 0 to cross_validation - 1
    identity: fingerprint of the step, which a checkpoint has to match
    Returns the training's metrics, `start` (the file of the start weights) and `boxes` (count of training boxes).
    """
    from cxr.torchkit.device import seed_torch, select_device
    from cxr.torchkit.loop import fit as fit_network
    from stage0_bbox.network import build_detector, recalibrate_detector, sum_losses

    seed_torch(stage.recipe.seed, fold)
    data = stage.build_box_data(fold)
    model, start_description = build_detector(stage.detector)
    print(f"{step.name}: start weights: {start_description}; {len(data.boxes)} boxes to learn from", flush=True)
    if stage.detector.recalibrate:
        recalibrate_detector(model, data)
    training = stage.detector.training
    metrics = fit_network(model, data, sum_losses, training, step.folder, identity, select_device(), label=step.name)
    (step.folder / "checkpoint.pt").unlink(missing_ok=True)
    start_record = start_weights.record_start(config.get_start_weights(stage.detector))
    return metrics | {"start": start_record, "boxes": len(data.boxes)}


def detect_boxes(stage: Stage, step: Step) -> None:
    """Write the detections of every image, by the stored weights."""
    from stage0_bbox import detect as detection

    weight_files = [stage.fit_step(fold).folder / "weights.safetensors" for fold in stage.folds]
    file = step.folder / "detections.csv"
    detection.write_detections(weight_files, stage.build_box_data(), stage.fold_by_image, file)


def write_boxes(stage: Stage, step: Step, metrics: dict) -> None:
    """Write the boxes for the later stages and their picture, and fill `metrics`, from the stored detections."""
    from stage0_bbox import choose_boxes, detect, overview, scores

    path = stage.paths.editable_boxes_csv
    chooser = choose_boxes.ChestBoxChooser(stage.prepared, stage.detector, stage.labels.boxes, stage.fold_by_image)
    chest_boxes = chooser.choose_boxes(detect.read_detections(stage.detect_step.folder / "detections.csv"))
    with box_edits.lock_table(path):
        edit_rows = box_edits.find_edits(path)
        table = chooser.build_table(chest_boxes, edit_rows, path)
        choose_boxes.write_box_tables(table, path, stage.paths.boxes_csv)
    for key in choose_boxes.find_dropped_edits(edit_rows, table):
        print(f"stage 0: the edited box of {key} is left out: the data does not hold this image")
    metrics |= scores.measure_boxes(chooser, chest_boxes, stage.labels.hand_boxes)
    metrics |= {"edited": int((table["source"] == box_edits.EDITED).sum()), "margin": stage.detector.margin}
    overview.write_overview(stage.prepared, chest_boxes, stage.labels.hand_boxes, edit_rows, path.with_suffix(".jpg"))
    print(f"{step.name}: {path}\n{scores.format_metrics(metrics)}", flush=True)


if __name__ == "__main__":
    run_main(main)
