"""The decision: which thresholds, how sharp their optimum is, how far they wander from fold to fold."""

import numpy as np

from cxr.errors import DataError
from cxr.metrics import shown
from pipeline.figure import BLUE, RED, new_figure
from pipeline.report.blocks import Picture, Row, Table, vector
from pipeline.report.sources import Sources

NAMES = {
    "top": "top score", "least_area": "least area above it, px", "bottom": "bottom score", "gate": "gate",
    "label_gate": "label heads' gate", "least_component": "least part, px",
}  # fmt: skip
LEVELS = 255
NOT_CHOSEN = {
    True: "The gate was not chosen: it is the settings'.",
    False: "The gate was not chosen, as without masks there is no Dice to choose it by: it is the settings' gate, or "
    ".5 where they name several.",
}
"""Where nothing was asked of the gate: with segmenters, and without."""


def blocks(run: Sources) -> list:
    """The decision for the test, the surface that it was found on, and what choosing gained."""
    decision = run.decision
    found = [_table(decision), *_in_words(decision, bool(run.recipe.stage2))]
    path = run.paths.stage3 / "search.npz"
    if path.is_file():
        found.insert(0, Row(_pictures(path, decision["test"])))
    elif run.recipe.stage2:
        found.append("Every list of the grid has one value: nothing was searched, so there is no surface to show.")
    else:
        found.append("The recipe has no segmenters: the gate alone decides.")
    return found


def _table(decision: dict) -> Table:
    """Each parameter: for the test, over the held-out groups, and among all decisions nearly as good."""
    search = decision.get("search") or {}
    spans = [search.get(key) or {} for key in ("wander", "flat")]
    rows = [
        [title, shown_as(name, decision["test"][name]), *(_span(name, span.get(name)) for span in spans)]
        for name, title in NAMES.items() if name in decision["test"]
    ]  # fmt: skip
    side = decision["test"].get("reference_size", 1024)
    caption = f"Areas are pixels of an image of {side:g} x {side:g}."
    return Table(["", "for the test", "over the held-out groups", "of all within .001 of the best"], rows, caption)


def shown_as(name: str, value: float) -> str:
    """A parameter for a table."""
    return f"{value:,.0f}" if name in ("least_area", "least_component") else shown(value)


def _span(name: str, span: list[float] | None) -> str:
    if span is None:
        return "–"
    low, high = (shown_as(name, value) for value in span)
    return low if low == high else f"{low} to {high}"


def _in_words(decision: dict, masks: bool) -> list[str]:
    search, words = decision.get("search") or {}, []
    if search.get("nested") is not None:
        words.append(
            f"Chosen on the other groups and scored on this one, Kaggle's Dice is {shown(search['nested'])}; above .5, "
            f"with nothing chosen, {shown(search['plain'])}; with every mask empty {shown(search['all_empty'])}. "
            f"Choosing gained {shown(search['gain_over_plain'])}. Of the decisions that are about as good the most "
            "central is taken, which need not be the very best on these images."
        )
    if decision.get("operating_point"):
        words += _of_point(decision["operating_point"], decision["held_out"]["nested_by"], masks)
    zone = (decision.get("inconclusive_zone") or {}).get("test")
    words += [f"Inconclusive, for the test: probabilities between {_plain(zone)}."] if zone else []
    return words


def _of_point(point: dict, by: str, masks: bool) -> list[str]:
    """What the gate was asked for, what it reached, as chosen and nested, and what could not be had as asked."""
    reached = _plain({key: value for key, value in point.items() if key not in ("asked", "held_out", "said")})
    if not point["asked"]:
        return [f"{NOT_CHOSEN[masks]} On the held-out images it has {reached}."]
    asked = "the best of Kaggle's Dice" if "kaggle_dice" in point["asked"] else _plain(point["asked"])
    nested = f"; chosen on the other groups, {_plain(point['held_out'])}" if point.get("held_out") else ""
    said = [
        f"For {'the test' if whose == 'test' else f'{by} {whose}'}: {text}."
        for whose, text in (point.get("said") or {}).items()
    ]
    return [f"The gate was asked for {asked}. On the images it was chosen on it has {reached}{nested}.", *said]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')} {_plain(inner)}" for key, inner in value.items())
    return shown(value) if value is None or isinstance(value, float) else str(value)


def _pictures(path, test: dict) -> list[Picture]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise DataError(f"stage3/search.npz cannot be read ({error}); FORCE=1 makes it anew") from None
    lines = [
        _line(found[values], found[dice], test[name], NAMES[name])
        for values, dice, name in (("gates", "gate_dice", "gate"), ("areas", "area_dice", "least_area"))
        if len(found[values]) > 1
    ]
    return [_surface(found, test), *lines] if found["surface"].size > 1 else lines


def _surface(found: dict[str, np.ndarray], test: dict) -> Picture:
    """Kaggle's Dice by top and bottom score, the best over all least areas."""
    figure = new_figure(5.0, 4.4, "Kaggle's Dice by top and bottom score")
    axis = figure.subplots()
    tops, bottoms, surface = found["tops"] / LEVELS, found["bottoms"] / LEVELS, found["surface"]
    best = np.nanmax(surface)
    low = max(np.nanmin(surface), best - 0.05)  # the flat top is what matters
    surface = np.clip(surface, low, None)
    mesh = axis.pcolormesh(bottoms, tops, surface, cmap="viridis", shading="nearest", rasterized=True)
    if min(surface.shape) > 1 and best - 0.001 > np.nanmin(surface):
        axis.contour(bottoms, tops, surface, levels=[best - 0.001], colors="white", linewidths=1)
    axis.plot(test["bottom"], test["top"], "x", color=RED, markersize=10, markeredgewidth=2)
    axis.set(xlabel="bottom score", ylabel="top score")
    figure.colorbar(mesh, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    axis.tick_params(labelsize=8)
    return vector(figure, "threshold surface; cross: chosen for the test; white line: within .001 of the best")


def _line(values: np.ndarray, dice: np.ndarray, chosen: float, name: str) -> Picture:
    figure = new_figure(4.6, 3.4, f"Kaggle's Dice by {name.removesuffix(', px')}")
    axis = figure.subplots()
    axis.plot(values, dice, "-", color=BLUE, linewidth=1.5, marker="." if len(values) < 50 else "")
    axis.axvline(chosen, color=RED, linewidth=1, linestyle="--")
    if name.endswith("px"):
        axis.set_xscale("symlog", linthresh=100)
        axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter(lambda area, _: f"{area:,.0f}")
    axis.set(xlabel=name, ylabel="Kaggle's Dice")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    return vector(figure, f"Kaggle's Dice by {name}; dashed: chosen for the test")
