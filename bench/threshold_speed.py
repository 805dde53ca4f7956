"""Seconds and memory of stage 3's exact search of thresholds, beside the first place's loop over images and triplets.

python -m bench.threshold_speed [--images 12047] [--maps 200] [--size 512] [--loop 20]

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

from cxr import metrics
from cxr.geometry import Letterbox
from stage3_stack.components import restored
from stage3_stack.config import Config, DenseConfig, GridConfig
from stage3_stack.decide import decide
from stage3_stack.search import axes, best, search
from stage3_stack.thresholds import Counts, Decision, counted

SIDE = 1024
EXACT = GridConfig(tops="exact", least_areas="exact", bottoms="exact", gates=[0])


def made_up(images: int, seed: int = 0) -> tuple[Counts, np.ndarray]:
    """Counts and probabilities of images as a trained segmenter and a classifier leave them."""
    random = np.random.default_rng(seed)
    lesion = random.random(images) < 0.22
    high = np.where(lesion, random.beta(4, 1.2, images), random.beta(0.5, 2.5, images)) * 255  # a map's highest score
    area = np.exp(random.normal(9, 1, images))  # pixels of a blob at half its height; SIIM's lesions are about as many
    levels = np.arange(256)
    above = area[:, None] * np.maximum(1 - levels / high[:, None], 0) ** 0.7 + random.integers(0, 3, (images, 256))
    above = np.where(levels < high[:, None], above, 0)
    above = np.maximum.accumulate(above[:, ::-1], axis=1)[:, ::-1].astype(np.int32)
    truth = np.where(lesion, np.maximum(area * random.lognormal(0, 0.3, images), 20), 0).astype(np.int64)
    overlap = (np.minimum(above, truth[:, None]) * random.uniform(0.3, 1, (images, 1))).astype(np.int32)
    pieces, head = np.ones(images, np.int64), np.full(images, np.nan)
    prob = 1 / (1 + np.exp(-random.normal(np.where(lesion, 1.5, -2.5), 1.5)))
    return Counts(above, overlap, truth, head, pieces, {}, np.full(images, SIDE**2)), prob


def blobs(maps: int, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps uint8 [size, size] with a soft blob, and hand-drawn masks, uint8 [1024, 1024]; most of these are empty."""
    random = np.random.default_rng(0)
    found, truth = [], []
    for number in range(maps):
        spot = np.zeros((size, size), np.float32)
        cv2.circle(spot, tuple(random.integers(0, size, 2).tolist()), int(random.integers(4, size // 8)), 255, -1)
        found.append(cv2.GaussianBlur(spot, (0, 0), size / 50).astype(np.uint8))
        drawn = cv2.resize(spot, (SIDE, SIDE)) > 127
        truth.append((drawn & (number % 9 < 2)).astype(np.uint8))
    return found, truth


def told(name: str, work: Callable[[], Decision]) -> None:
    """Prints wall and CPU time (two idle cores take half of it), the most memory held, and the decision."""
    start, busy = time.perf_counter(), time.process_time()
    decision = work()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{name}: {time.perf_counter() - start:.1f} s, {time.process_time() - busy:.1f} s of CPU, {memory:.2f} GB; "
          f"{decision.top} / {decision.least_area} / {decision.bottom} at {decision.gate:.3f}", flush=True)  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def one_pass(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Seconds an image, in one thread: to the original's pixels, and counted by level."""
    box = Letterbox(SIDE, SIDE, SIDE)
    pairs = zip(found, truth, strict=True)
    return seconds(lambda: [counted(restored(own, box), mask) for own, mask in pairs]) / len(found)


def loop(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Seconds an image and triplet of the first place's way."""

    def one(own: np.ndarray, mask: np.ndarray) -> float:
        enlarged = cv2.resize(own.astype(np.float32) / 255, (SIDE, SIDE))
        drawn = (enlarged > 0.3) if (enlarged > 0.75).sum() >= 2000 else np.zeros_like(enlarged, bool)
        return metrics.dice(mask, drawn)

    return seconds(lambda: [one(*pair) for pair in zip(found, truth, strict=True)]) / len(found)


def main(images: int = 12_047, maps: int = 200, size: int = 512, loop_maps: int = 20) -> None:
    """Prints one line each."""
    counts, prob = made_up(images)
    gated = EXACT.model_copy(update={"gates": {"quantiles": 32}})
    told("whole exact grid", lambda: best(search(counts, prob, axes(EXACT, prob))))
    told("the same at 32 quantiles of the gate", lambda: best(search(counts, prob, axes(gated, prob), each_gate=True)))
    config, fold = Config(dense=DenseConfig(steps=1), grid=gated), np.arange(images) % 5
    told("all of it for the test, and nested over 5 folds",
         lambda: decide("fold", fold, counts, prob, config, (counts.truth > 0).astype(float)).test)  # fmt: skip
    found, truth = blobs(maps, size)
    print(f"one pass over maps of {size}: {one_pass(found, truth) * images:.0f} s in one thread for {images} images")
    each = loop(found[:loop_maps], truth[:loop_maps])
    print(f"the first place's way: {each * 1000:.1f} ms an image and triplet, {each * images:.0f} s a triplet")


if __name__ == "__main__":
    tyro.cli(main)
