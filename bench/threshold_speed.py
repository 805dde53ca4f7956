"""Seconds and memory of stage 3's exact threshold search, compared with the first place's loop over images.

python -m bench.threshold_speed [--images 12047] [--maps 200] [--size 512] [--loop-maps 20]

The search runs on simulated histograms of as many images as --images: 22 % have a lesion, most maps are near 0 and a
few negatives have high scores, as with a trained network. The pass over maps that makes the histograms (enlarge, count
by level) is timed on --maps maps of --size and multiplied. The first place's loop enlarges, thresholds, sums and
scores a map for each triplet (top threshold, area, bottom threshold); it is timed on --loop-maps maps.
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
    """Histograms of maps, and probabilities [images], like those of a trained segmenter and a classifier."""
    rng = np.random.default_rng(seed)
    has_lesion = rng.random(images) < 0.22
    peak_score = np.where(has_lesion, rng.beta(4, 1.2, images), rng.beta(0.5, 2.5, images)) * 255
    area = np.exp(rng.normal(9, 1, images))  # pixels above half of the peak; about as large as SIIM's lesions
    levels = np.arange(256)
    relative_area = np.maximum(1 - levels / peak_score[:, None], 0) ** 0.7
    pixels_above = area[:, None] * relative_area + rng.integers(0, 3, (images, 256))
    pixels_above = np.where(levels < peak_score[:, None], pixels_above, 0)
    pixels_above = np.maximum.accumulate(pixels_above[:, ::-1], axis=1)[:, ::-1].astype(np.int32)
    truth = np.where(has_lesion, np.maximum(area * rng.lognormal(0, 0.3, images), 20), 0).astype(np.int64)
    overlap = (np.minimum(pixels_above, truth[:, None]) * rng.uniform(0.3, 1, (images, 1))).astype(np.int32)
    component_counts, head_probs = np.ones(images, np.int64), np.full(images, np.nan)
    prob = 1 / (1 + np.exp(-rng.normal(np.where(has_lesion, 1.5, -2.5), 1.5)))
    pixel_counts = np.full(images, SIDE**2)
    return LevelHistograms(pixels_above, overlap, truth, head_probs, component_counts, {}, pixel_counts), prob


def draw_blobs(maps: int, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps uint8 [size, size] with a soft blob, and true masks uint8 [1024, 1024], two of nine with a lesion."""
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
    """Print wall and CPU time (two idle cores take half of it), the most memory held, and the chosen parameters."""
    start, cpu_start = time.perf_counter(), time.process_time()
    params = choose_params()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    triplet = f"{params.top_score_threshold} / {params.min_area} / {params.bottom_score_threshold}"
    print(f"{name}: {seconds:.1f} s, {cpu_seconds:.1f} s of CPU, {gigabytes:.2f} GB; ", end="")
    print(f"{triplet} at {params.probability_threshold:.3f}", flush=True)


def measure_seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_map_pass(prob_maps: list[np.ndarray], true_masks: list[np.ndarray]) -> float:
    """Seconds an image, in one thread, to restore a map to the original's pixels and to count these by level."""
    letterbox, pairs = Letterbox(SIDE, SIDE, SIDE), zip(prob_maps, true_masks, strict=True)

    def count_all_maps() -> None:
        for prob_map, mask in pairs:
            histogram_above_levels(restore_map(prob_map, letterbox), mask)

    return measure_seconds(count_all_maps) / len(prob_maps)


def time_plain_loop(prob_maps: list[np.ndarray], true_masks: list[np.ndarray]) -> float:
    """Seconds for each image and triplet by the first place's loop."""

    def score_triplet(prob_map: np.ndarray, mask: np.ndarray) -> float:
        enlarged = cv2.resize(prob_map.astype(np.float32) / 255, (SIDE, SIDE))
        predicted_mask = (enlarged > 0.3) if (enlarged > 0.75).sum() >= 2000 else np.zeros_like(enlarged, bool)
        return metrics.dice_of_masks(mask, predicted_mask)

    pairs = list(zip(prob_maps, true_masks, strict=True))
    return measure_seconds(lambda: [score_triplet(*pair) for pair in pairs]) / len(pairs)


def time_search(images: int) -> None:
    """Print the time of the search: alone, at 32 probability thresholds, and for all that stage 3 chooses."""
    histograms, prob = simulate_histograms(images)
    grid = EXACT_GRID.model_copy(update={"probability_thresholds": {"quantiles": 32}})

    def search_grid(searched_grid: GridConfig, exact: bool) -> PostprocessingParams:
        axes = build_axes(searched_grid, prob)
        return select_best_params(search_thresholds(histograms, prob, axes, exact_at_each_threshold=exact))

    print_timing("whole exact grid", lambda: search_grid(EXACT_GRID, exact=False))
    print_timing("the same at 32 quantiles of the probability", lambda: search_grid(grid, exact=True))
    config, labels = Config(dense=DenseConfig(steps=1), grid=grid), (histograms.truth_area > 0).astype(float)
    held_out = HeldOutImages("fold", np.arange(images) % 5, histograms, prob, labels)
    print_timing(
        "all of it for the test, and nested over 5 folds",
        lambda: choose_postprocessing(held_out, config).test_params,
    )


def main(images: int = 12_047, maps: int = 200, size: int = 512, loop_maps: int = 20) -> None:
    """Print a line for each search, one for the pass over maps and one for the first place's loop.

    Args:
        images: that the search is over.
        maps: that the pass over maps is timed on.
        size: side of a map in pixels.
        loop_maps: that the first place's loop is timed on.
    """
    time_search(images)
    prob_maps, true_masks = draw_blobs(maps, size)
    pass_seconds = time_map_pass(prob_maps, true_masks) * images
    print(f"one pass over maps of {size}: {pass_seconds:.0f} s in one thread for {images} images")
    triplet_seconds = time_plain_loop(prob_maps[:loop_maps], true_masks[:loop_maps])
    print(f"the first place's loop: {triplet_seconds * 1000:.1f} ms for each image and triplet, ", end="")
    print(f"{triplet_seconds * images:.0f} s for each triplet")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
