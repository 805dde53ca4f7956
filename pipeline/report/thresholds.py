"""The decision: its thresholds, how sharp their optimum is, and how much they vary between folds."""

import numpy as np

from evaluation.metrics import format_metric
from pipeline.pictures.figure import BLUE, RED, create_figure
from pipeline.report.blocks import Picture, PictureRow, Table, embed_svg
from pipeline.run_files import RunFiles
from stage3_stack.config import refuse_renamed_keys

PARAMETER_TITLES = {
    "top_score_threshold": "top score", "min_area": "min area above it, px", "bottom_score_threshold": "bottom score",
    "probability_threshold": "probability threshold", "label_head_threshold": "label head threshold",
    "min_component_area": "min component area, px",
}  # fmt: skip
MAX_LEVEL = 255
NOT_CHOSEN_NOTES = {
    True: "The probability threshold was not chosen: it is that of the settings.",
    False: "The probability threshold was not chosen, as without masks there is no Dice to choose it by: it is that of "
    "the settings, or .5 where they list several.",
}
"""If the probability threshold has no target: with segmenters (True), and without."""


def build_blocks(run: RunFiles) -> list:
    """The decision for the test, the surface of the threshold search, and what choosing gained."""
    decision = run.decision_record
    refuse_renamed_keys(run.paths.stage3_folder / "decision.json", decision["test"])
    chapter_blocks = [_build_parameter_table(decision), *_describe_search(decision, bool(run.recipe.stage2))]
    if run.search_arrays is not None:
        chapter_blocks.insert(0, PictureRow(_draw_search_pictures(run.search_arrays, decision["test"])))
    elif run.recipe.stage2:
        note = "Every list of the grid has one value: nothing was searched, so there is no surface to show."
        chapter_blocks.append(note)
    else:
        chapter_blocks.append("The recipe has no segmenters: the probability threshold alone decides.")
    return chapter_blocks


def _build_parameter_table(decision: dict) -> Table:
    """Each parameter: its value for the test, its range over the held-out groups and over near-optimal decisions."""
    search = decision.get("search") or {}
    spans = [search.get(key) or {} for key in ("fold_spread", "near_optimal_range")]
    rows = [
        [title, format_parameter(name, decision["test"][name]), *(_format_span(name, span.get(name)) for span in spans)]
        for name, title in PARAMETER_TITLES.items() if name in decision["test"]
    ]  # fmt: skip
    side = decision["test"].get("reference_size", 1024)
    caption = f"Areas are pixels of an image of {side:g} x {side:g}."
    return Table(["", "for the test", "over the held-out groups", "of all within .001 of the best"], rows, caption)


def format_parameter(name: str, value: float) -> str:
    """A parameter for a table."""
    return f"{value:,.0f}" if name in ("min_area", "min_component_area") else format_metric(value)


def _format_span(name: str, span: list[float] | None) -> str:
    if span is None:
        return "–"
    low, high = (format_parameter(name, value) for value in span)
    return low if low == high else f"{low} to {high}"


def _describe_search(decision: dict, has_masks: bool) -> list[str]:
    search, sentences = decision.get("search") or {}, []
    if search.get("nested") is not None:
        sentences.append(
            f"Chosen on the other groups and scored on this one, Kaggle's Dice is {format_metric(search['nested'])}; "
            f"above .5, with nothing chosen, {format_metric(search['plain'])}; with every mask empty "
            f"{format_metric(search['all_empty'])}. Choosing gained {format_metric(search['gain_over_plain'])}. Among "
            "the decisions that are about as good, the most central one is taken; it need not be the very best on "
            "these images."
        )
    if point := decision.get("operating_point"):
        sentences += _describe_operating_point(point, decision["held_out"]["nested_by"], has_masks)
    zone = (decision.get("inconclusive_zone") or {}).get("test")
    sentences += [f"Inconclusive, for the test: probabilities between {_format_value(zone)}."] if zone else []
    return sentences


def _describe_operating_point(point: dict, nested_by: str, has_masks: bool) -> list[str]:
    """The operating point: its target, the rates reached, and targets that were out of reach.

    point: target, held_out (the rates nested), problems (by group), and the rates on the images it was chosen on
    """
    rates = {key: value for key, value in point.items() if key not in ("target", "held_out", "problems")}
    reached_rates = _format_value(rates)
    if not point["target"]:
        return [f"{NOT_CHOSEN_NOTES[has_masks]} On the held-out images it has {reached_rates}."]
    requested = "the best of Kaggle's Dice" if "kaggle_dice" in point["target"] else _format_value(point["target"])
    nested_text = f"; chosen on the other groups, {_format_value(point['held_out'])}" if point.get("held_out") else ""
    remarks = [
        f"For {'the test' if group == 'test' else f'{nested_by} {group}'}: {text}."
        for group, text in (point.get("problems") or {}).items()
    ]
    return [
        f"The probability threshold aims at {requested}. On the images it was chosen on it has "
        f"{reached_rates}{nested_text}.",
        *remarks,
    ]


def _format_value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')} {_format_value(inner)}" for key, inner in value.items())
    return format_metric(value) if value is None or isinstance(value, float) else str(value)


def _draw_search_pictures(arrays: dict[str, np.ndarray], test_decision: dict) -> list[Picture]:
    line_charts = [
        _draw_line(arrays[values], arrays[dice], test_decision[name], PARAMETER_TITLES[name])
        for values, dice, name in (
            ("probability_thresholds", "probability_threshold_dice", "probability_threshold"),
            ("min_areas", "min_area_dice", "min_area"),
        )
        if len(arrays[values]) > 1
    ]
    return [_draw_surface(arrays, test_decision), *line_charts] if arrays["surface"].size > 1 else line_charts


def _draw_surface(arrays: dict[str, np.ndarray], test_decision: dict) -> Picture:
    """Kaggle's Dice by top and bottom score, each at its best min area."""
    figure = create_figure(5.0, 4.4, "Kaggle's Dice by top and bottom score")
    axis = figure.subplots()
    top_scores, bottom_scores = arrays["top_levels"] / MAX_LEVEL, arrays["bottom_levels"] / MAX_LEVEL
    surface = arrays["surface"]
    best_dice = np.nanmax(surface)
    low = max(np.nanmin(surface), best_dice - 0.05)  # only the region near the optimum matters
    surface = np.clip(surface, low, None)
    mesh = axis.pcolormesh(bottom_scores, top_scores, surface, cmap="viridis", shading="nearest", rasterized=True)
    if min(surface.shape) > 1 and best_dice - 0.001 > np.nanmin(surface):
        axis.contour(bottom_scores, top_scores, surface, levels=[best_dice - 0.001], colors="white", linewidths=1)
    chosen_scores = test_decision["bottom_score_threshold"], test_decision["top_score_threshold"]
    axis.plot(*chosen_scores, "x", color=RED, markersize=10, markeredgewidth=2)
    axis.set(xlabel="bottom score", ylabel="top score")
    figure.colorbar(mesh, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    axis.tick_params(labelsize=8)
    return embed_svg(figure, "threshold surface; cross: chosen for the test; white line: within .001 of the best")


def _draw_line(values: np.ndarray, dice: np.ndarray, chosen_value: float, name: str) -> Picture:
    figure = create_figure(4.6, 3.4, f"Kaggle's Dice by {name.removesuffix(', px')}")
    axis = figure.subplots()
    axis.plot(values, dice, "-", color=BLUE, linewidth=1.5, marker="." if len(values) < 50 else "")
    axis.axvline(chosen_value, color=RED, linewidth=1, linestyle="--")
    if name.endswith("px"):
        axis.set_xscale("symlog", linthresh=100)
        axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter(lambda area, _: f"{area:,.0f}")
    axis.set(xlabel=name, ylabel="Kaggle's Dice")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    return embed_svg(figure, f"Kaggle's Dice by {name}; dashed: chosen for the test")
