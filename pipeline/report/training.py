"""The trainings, epoch by epoch."""

from pipeline.curves import curves
from pipeline.report.blocks import vector
from pipeline.report.sources import Sources


def blocks(run: Sources) -> list:
    """Curves of every member and fold."""
    figure = curves(run.recipe, run.paths)
    if figure is None:
        return ["No training has left its curves (history.csv) yet."]
    return [vector(figure, "loss, learning rate and watched scores by epoch", wide=True)]
