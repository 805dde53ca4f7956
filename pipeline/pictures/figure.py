"""The palette of a run's pictures, and an empty figure."""

# Colours that colour-blind readers can tell apart too: Okabe and Ito, Color Universal Design, 2008.
BLUE, ORANGE, GREEN, RED, SKY, PINK, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442",
)  # fmt: skip


def create_figure(width: float, height: float, title: str):
    """An empty figure of this size in inches, with its title and the note on research use."""
    from matplotlib.figure import Figure  # takes a third of a second; without pyplot it needs no display

    figure = Figure(figsize=(width, height), layout="constrained")
    footer_height = 0.25 / height
    figure.get_layout_engine().set(rect=(0, footer_height, 1, 1 - footer_height))
    figure.suptitle(title, fontsize=11)
    figure.text(0.995, footer_height / 4, "Research use only.", fontsize=7, color="#555555", ha="right")
    return figure
