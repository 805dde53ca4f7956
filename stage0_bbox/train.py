"""Train the detectors of the cross-validation, find the chest in every image, and write the boxes.

python -m stage0_bbox.train [--margin 0.03 --training.epochs 5 ...]
"""

import sys
from functools import cached_property

from cxr import plan, weights
from cxr.config import from_command_line
from cxr.errors import run_main
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from stage0_bbox import check, config, edits


class Stage:
    """Stage 0 of one recipe on one dataset: what its steps share, each opened when it is first asked for."""

    def __init__(self, recipe: Recipe, paths: Paths, detector: config.Config) -> None:
        self.recipe, self.paths, self.detector = recipe, paths, detector

    @cached_property
    def prepared(self) -> Prepared:
        return Prepared(self.paths.prepared, self.paths.folds)

    @cached_property
    def labels(self):
        """The boxes to learn from; says once what was left out."""
        from stage0_bbox.labels import collect

        files = config.label_files(self.paths, self.detector)
        found = collect(files, self.detector.labels[0], self.prepared.manifest)
        for why, count in found.skipped.items():
            print(f"stage 0: {count} rows {why} are left out")
        print(f"stage 0: {len(found.hand)} hand boxes, {len(found.weak)} weak ones")
        return found

    @cached_property
    def part(self) -> dict[str, int]:
        """The model that does not see a boxed image, nor its patient."""
        from stage0_bbox.data import parts

        return parts(self.prepared, list(self.labels.boxes), self.detector.cross_validation)

    def data(self, fold: int | None = None):
        """The examples of a model; without `fold`, for inference alone."""
        from stage0_bbox.data import BoxData

        seen = {key: box for key, box in self.labels.boxes.items() if fold is not None and self.part[key] != fold}
        return BoxData(self.prepared, seen, self.detector, self.recipe.seed)

    def fit_unit(self, fold: int) -> Unit:
        return config.fit_unit(self.recipe, self.paths, self.detector, fold)

    @property
    def detect_unit(self) -> Unit:
        return config.detect_unit(self.recipe, self.paths, self.detector)

    @property
    def folds(self) -> range:
        return range(self.detector.cross_validation)


def main() -> None:
    stage = open_stage("stage0_bbox.train")
    check.resolve(stage.recipe, stage.detector)
    unit = config.unit(stage.recipe, stage.paths, stage.detector)
    plan.run(unit, lambda _identity, metrics: make(stage, unit, metrics))


def open_stage(prog: str) -> Stage:
    """The stage of this command: its recipe and dataset, and the settings overridden on the command line."""
    recipe, paths = chosen()
    detector = config.with_weights(recipe, config.read(recipe.stage0))
    return Stage(recipe, paths, from_command_line(detector, sys.argv[1:], prog))


def make(stage: Stage, unit: Unit, metrics: dict) -> None:
    """Every step of the stage; the steps that are up to date are left as they are."""
    for fold in stage.folds:
        fold_unit = stage.fit_unit(fold)
        plan.run(fold_unit, lambda identity, found, u=fold_unit, f=fold: found.update(fit(stage, u, f, identity)))
    detect_unit = stage.detect_unit
    plan.run(detect_unit, lambda _identity, _metrics: detect(stage, detect_unit))
    write_boxes(stage, unit, metrics)


def fit(stage: Stage, unit: Unit, fold: int, identity: str) -> dict:
    """Train one model, from its checkpoint where it was interrupted; its weights end in the unit's folder."""
    from cxr.torchkit.device import device, seed
    from cxr.torchkit.loop import fit as fit_network
    from stage0_bbox.model import build, losses, recalibrate

    seed(stage.recipe.seed, fold)
    data = stage.data(fold)
    model, about = build(stage.detector)
    print(f"{unit.name}: start weights: {about}; {len(data.boxes)} boxes to learn from", flush=True)
    if stage.detector.recalibrate:
        recalibrate(model, data)
    training = stage.detector.training
    found = fit_network(model, data, losses, training, unit.folder, identity, device(), label=unit.name)
    (unit.folder / "checkpoint.pt").unlink(missing_ok=True)
    return found | {"start": weights.record(config.start(stage.detector)), "boxes": len(data.boxes)}


def detect(stage: Stage, unit: Unit) -> None:
    """Detections of every image, from the stored weights."""
    from stage0_bbox import detect as detection

    files = [stage.fit_unit(fold).folder / "weights.safetensors" for fold in stage.folds]
    detection.detect(files, stage.data(), stage.part, unit.folder / "detections.csv")


def write_boxes(stage: Stage, unit: Unit, metrics: dict) -> None:
    """The boxes for the later stages, their picture and their metrics, from the stored detections."""
    from stage0_bbox import choose, detect, overview, scores

    path = stage.paths.editable_boxes
    chooser = choose.Chooser(stage.prepared, stage.detector, stage.labels.boxes, stage.part)
    found = chooser.choose(detect.read(stage.detect_unit.folder / "detections.csv"))
    with edits.locked(path):
        edited = edits.find(path)
        table = chooser.table(found, edited, path)
        choose.write(table, path, stage.paths.boxes)
    for key in choose.dropped(edited, table):
        print(f"stage 0: the edited box of {key} is left out: the data does not hold this image")
    metrics |= scores.measure(chooser, found, stage.labels.hand)
    metrics |= {"edited": int((table["source"] == edits.EDITED).sum()), "margin": stage.detector.margin}
    overview.draw(stage.prepared, found, stage.labels.hand, edited, path.with_suffix(".jpg"))
    print(f"{unit.name}: {path}\n{scores.table(metrics)}", flush=True)


if __name__ == "__main__":
    run_main(main)
