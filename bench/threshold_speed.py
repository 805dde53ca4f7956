"""Seconds and memory of stage 3's exact search of thresholds, beside the first place's loop over images and triplets.

python -m bench.threshold_speed [--images 12047] [--maps 200] [--size 512] [--loop-maps 20]

The counts are those of made-up maps: 22 % of the images have a lesion, most maps are near 0, some negatives light up,
as with a trained network. The pass over maps (enlarge, count by level) is timed on some whole ones of 1024 x 1024 and
multiplied. The loop is the first place's way: a map enlarged, compared, summed and scored for one triplet.
"""

import resource
import time
from collections.abc import Callable

import cv2
import numpy as np
import tyro

from cxr.imaging.geometry import Letterbox
from evaluation import metrics
from stage3_stack.config import Config, DenseConfig, GridConfig
from stage3_stack.postprocessing.components import restore_map
from stage3_stack.postprocessing.nested_choice import choose_postprocessing
from stage3_stack.postprocessing.nesting import HeldOutImages
from stage3_stack.postprocessing.search import search_thresholds, select_best_params
from stage3_stack.postprocessing.search_axes import build_axes
from stage3_stack.postprocessing.thresholds import LevelHistograms, PostprocessingParams, histogram_above_levels

SIDE = 1024
EXACT_GRID = GridConfig(
    top_score_thresholds="exact", min_areas="exact", bottom_score_thresholds="exact", probability_thresholds=[0]
)


def simulate_histograms(images: int, seed: int = 0) -> tuple[LevelHistograms, np.ndarray]:
    """Counts and probabilities of images as a trained segmenter and a classifier leave them."""
    rng = np.random.default_rng(seed)
    has_lesion = rng.random(images) < 0.22
    peak_score = (
        np.where(has_lesion, rng.beta(4, 1.2, images), rng.beta(0.5, 2.5, images)) * 255
    )  # a map's highest score
    area = np.exp(rng.normal(9, 1, images))  # pixels of a blob at half its height; SIIM's lesions are about as many
    levels = np.arange(256)
    pixels_above = area[:, None] * np.maximum(1 - levels / peak_score[:, None], 0) ** 0.7 + rng.integers(
        0, 3, (images, 256)
    )
    pixels_above = np.where(levels < peak_score[:, None], pixels_above, 0)
    pixels_above = np.maximum.accumulate(pixels_above[:, ::-1], axis=1)[:, ::-1].astype(np.int32)
    truth = np.where(has_lesion, np.maximum(area * rng.lognormal(0, 0.3, images), 20), 0).astype(np.int64)
    overlap = (np.minimum(pixels_above, truth[:, None]) * rng.uniform(0.3, 1, (images, 1))).astype(np.int32)
    component_counts, head_probs = np.ones(images, np.int64), np.full(images, np.nan)
    prob = 1 / (1 + np.exp(-rng.normal(np.where(has_lesion, 1.5, -2.5), 1.5)))
    return LevelHistograms(
        pixels_above, overlap, truth, head_probs, component_counts, {}, np.full(images, SIDE**2)
    ), prob


def draw_blobs(maps: int, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps uint8 [size, size] with a soft blob, and hand-drawn masks, uint8 [1024, 1024]; most of these are empty."""
    rng = np.random.default_rng(0)
    prob_maps, true_masks = [], []
    for number in range(maps):
        blob = np.zeros((size, size), np.float32)
        cv2.circle(blob, tuple(rng.integers(0, size, 2).tolist()), int(rng.integers(4, size // 8)), 255, -1)
        prob_maps.append(cv2.GaussianBlur(blob, (0, 0), size / 50).astype(np.uint8))
        is_lesion = cv2.resize(blob, (SIDE, SIDE)) > 127
        true_masks.append((is_lesion & (number % 9 < 2)).astype(np.uint8))
    return prob_maps, true_masks


def print_timing(name: str, choose_params: Callable[[], PostprocessingParams]) -> None:
    """Prints wall and CPU time (two idle cores take half of it), the most memory held, and the decision."""
    start, cpu_start = time.perf_counter(), time.process_time()
    params = choose_params()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{name}: {time.perf_counter() - start:.1f} s, {time.process_time() - cpu_start:.1f} s of CPU, "
        f"{memory:.2f} GB; {params.top_score_threshold} / {params.min_area} / {params.bottom_score_threshold} at "
        f"{params.probability_threshold:.3f}",
        flush=True,
    )


def measure_seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_map_pass(prob_maps: list[np.ndarray], true_masks: list[np.ndarray]) -> float:
    """Seconds an image, in one thread: to the original's pixels, and counted by level."""
    letterbox = Letterbox(SIDE, SIDE, SIDE)
    pairs = zip(prob_maps, true_masks, strict=True)
    return measure_seconds(
        lambda: [histogram_above_levels(restore_map(prob_map, letterbox), mask) for prob_map, mask in pairs]
    ) / len(prob_maps)


def time_plain_loop(prob_maps: list[np.ndarray], true_masks: list[np.ndarray]) -> float:
    """Seconds an image and triplet of the first place's way."""

    def score_triplet(prob_map: np.ndarray, mask: np.ndarray) -> float:
        enlarged = cv2.resize(prob_map.astype(np.float32) / 255, (SIDE, SIDE))
        predicted_mask = (enlarged > 0.3) if (enlarged > 0.75).sum() >= 2000 else np.zeros_like(enlarged, bool)
        return metrics.dice_of_masks(mask, predicted_mask)

    return measure_seconds(lambda: [score_triplet(*pair) for pair in zip(prob_maps, true_masks, strict=True)]) / len(
        prob_maps
    )


def main(images: int = 12_047, maps: int = 200, size: int = 512, loop_maps: int = 20) -> None:
    """Prints one line each."""
    histograms, prob = simulate_histograms(images)
    gated_grid = EXACT_GRID.model_copy(update={"probability_thresholds": {"quantiles": 32}})
    print_timing(
        "whole exact grid",
        lambda: select_best_params(search_thresholds(histograms, prob, build_axes(EXACT_GRID, prob))),
    )
    print_timing(
        "the same at 32 quantiles of the gate",
        lambda: select_best_params(
            search_thresholds(histograms, prob, build_axes(gated_grid, prob), exact_at_each_threshold=True)
        ),
    )
    config, labels = Config(dense=DenseConfig(steps=1), grid=gated_grid), (histograms.truth_area > 0).astype(float)
    held_out = HeldOutImages("fold", np.arange(images) % 5, histograms, prob, labels)
    print_timing(
        "all of it for the test, and nested over 5 folds",
        lambda: choose_postprocessing(held_out, config).test_params,
    )
    prob_maps, true_masks = draw_blobs(maps, size)
    print(
        f"one pass over maps of {size}: {time_map_pass(prob_maps, true_masks) * images:.0f} s in one thread "
        f"for {images} images"
    )
    seconds_per_triplet = time_plain_loop(prob_maps[:loop_maps], true_masks[:loop_maps])
    print(
        f"the first place's way: {seconds_per_triplet * 1000:.1f} ms an image and triplet, "
        f"{seconds_per_triplet * images:.0f} s a triplet"
    )


if __name__ == "__main__":
    tyro.cli(main)
