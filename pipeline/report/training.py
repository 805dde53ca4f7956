"""The trainings, epoch by epoch."""

from pipeline.pictures.curves import draw_curves
from pipeline.report.blocks import embed_svg
from pipeline.run_files import RunFiles


def build_blocks(run: RunFiles) -> list:
    """Curves of every member and fold, in one picture."""
    figure = draw_curves(run)
    if figure is None:
        return ["No training has written its curves (history.csv) yet."]
    return [embed_svg(figure, "loss, learning rate and validation scores by epoch", wide=True)]
