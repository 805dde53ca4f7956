"""Training on cores that are shared: images a second alone, and beside one busy process, by how the threads wait.

python -m bench.shared_cores [--rounds 3] [--seconds 6] [--variants default passive ...]

Each variant is a process of its own that trains the small classifier (MobileNetV2, 256 x 256, batch 8) by the
loop's way; all are started once and take turns, first alone, then beside a process that only counts. Medians over
the rounds. 'cores' is the CPU time that the training got, 'images a CPU second' what it made of it: where threads spin
while they wait for one that has lost its core, they burn the first and the second falls. 'got' is the share of the time
in which its threads could have run that they had a core, which cxr.training.core_contention goes by.

What it told on two cores (AMD EPYC, bfloat16), with seven other works kept off by a high priority: libgomp's own wait
makes 27 images a second alone and 10 beside, on 1.2 cores, 8 images a CPU second; ours 27 and 12, on 1.0, of which it
makes 12; one thread 18 and 18. At a load of ten: libgomp's own .4 to 2.4, ours 2.5, spin 1,000 3.6, one thread 4 to 8.
With the cores to itself (a real-time priority) 18 starts of each made 27.9 by libgomp's own wait, 27.9 by ours and 27.0
by spin 1,000, each +- .6, and five of passive 26.8: a core that sleeps has to wake. Bound threads lost; short time
slices, SCHED_BATCH and nice loaders gained nothing that can be told from chance; OMP_DYNAMIC hung in oneDNN.
What is left is the lock step: two threads beside one process advance only while both have a core. Fewer threads than
cores do not wait; this changes the sums' last bits and costs a third alone, so a run does not choose it but says so.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cxr.training.core_contention import core_times

CORES = len(os.sched_getaffinity(0))
SIDE, BATCH = 256, 8


class Variant(NamedTuple):
    """How a training shares the cores."""

    environment: dict[str, str] = {}
    threads: int = CORES
    loaders: int | None = None
    """Processes that load and augment; none: every batch is the same, and ready."""
    niceness: int = 0
    """Of these processes."""


PASSIVE, ACTIVE = {"GOMP_SPINCOUNT": "0"}, {"GOMP_SPINCOUNT": "300000"}
VARIANTS = {
    "ours (spin 10,000)": Variant(),
    "libgomp's own (300,000)": Variant(ACTIVE),
    "spin 1,000": Variant({"GOMP_SPINCOUNT": "1000"}),
    "passive (0)": Variant(PASSIVE),
    "ours, bound": Variant({"OMP_PROC_BIND": "true"}),
    "a thread fewer": Variant(threads=max(CORES - 1, 1)),
    "ours, loader": Variant(loaders=1),
    "libgomp's own, loader": Variant(ACTIVE, loaders=1),
    "ours, loader nice": Variant(loaders=1, niceness=10),
    "ours, loads itself": Variant(loaders=0),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.shared_cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--train", choices=list(VARIANTS), help="be one of them (internal)")
    arguments = parser.parse_args()
    if arguments.train:
        train(VARIANTS[arguments.train])
        return
    print(
        f"{CORES} cores, {arguments.rounds} rounds of {arguments.seconds:g} s, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    trainings = {name: Training(name) for name in arguments.variants}
    rounds: dict[str, list[np.ndarray]] = {name: [] for name in trainings}
    for _ in range(arguments.rounds):
        for name, training in trainings.items():
            alone = training.measure_speed(arguments.seconds)
            with keep_core_busy():
                rounds[name].append(np.array([alone, training.measure_speed(arguments.seconds)]))
    print_medians(rounds)
    print(f"load after {os.getloadavg()[0]:.1f}")


class Training:
    """A variant's process, which trains when it is told to."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, "-m", "bench.shared_cores", "--train", name]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
        environment |= VARIANTS[name].environment
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.process.stdout.readline()  # it is warm

    def measure_speed(self, seconds: float) -> list[float]:
        """Images a second; seconds run and waited for a core, of its threads, a second."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def keep_core_busy() -> Iterator[None]:
    """A process that counts, and nothing else."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def print_medians(rounds: dict[str, list[np.ndarray]]) -> None:
    """The medians as a table; each figure alone and beside."""
    columns = ("images/s", "cores", "images a CPU second", "got")
    print(f"| variant | {' | '.join(f'{name}, alone | beside' for name in columns)} |")
    print("|---" * (1 + 2 * len(columns)) + "|")
    for name, measurements in rounds.items():
        images_per_second, run_seconds, wait_seconds = np.median(measurements, axis=0).T
        pairs = (
            images_per_second,
            run_seconds,
            images_per_second / run_seconds,
            run_seconds / (run_seconds + wait_seconds),
        )
        print(f"| {name} | {' | '.join(f'{alone:.2f} | {shared:.2f}' for alone, shared in pairs)} |")


def train(variant: Variant) -> None:
    """Train for as long as each line of the standard input says; print what came of it."""
    import torch

    torch.set_num_threads(variant.threads)
    step, batches = build_step(), generate_batches(variant)
    for batch in (next(batches), next(batches)):
        step(batch)
    print("warm", flush=True)
    for line in sys.stdin:
        times_before, image_count, start = np.array(core_times()), 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < float(line):
            step(next(batches))
            image_count += BATCH
        print(json.dumps([image_count / elapsed, *((np.array(core_times()) - times_before) / elapsed)]), flush=True)


def build_step():
    """A function that trains on one batch."""
    import torch

    from bench.training_speed import build_networks
    from cxr.torchkit.device import autocast, move_batch, select_device

    model, loss = build_networks()["mnv2_crop"]
    model.to(select_device(), memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters())

    def train_on_batch(batch: dict) -> None:
        with autocast(select_device(), amp=True):
            loss_value = loss(model, move_batch(batch, select_device()))
        loss_value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return train_on_batch


def generate_batches(variant: Variant) -> Iterator[dict]:
    """Batches without an end."""
    from bench.training_speed import build_noise_batch

    if variant.loaders is None:
        batch = build_noise_batch(BATCH, SIDE)
        while True:
            yield batch
    from cxr.torchkit import loading

    quiet_worker = loading._limit_opencv_threads
    loading._limit_opencv_threads = lambda worker: (quiet_worker(worker), os.nice(variant.niceness))
    loader, epoch = loading.TrainingLoader(Noise(), variant.loaders), 0
    while True:
        yield from loader.load_epoch(epoch)
        epoch += 1


class Noise:
    """Pictures of noise, augmented as the small classifier's."""

    def batches(self, _epoch: int) -> list[list[str]]:
        return [[str(number) for number in range(BATCH)]] * 200

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        from cxr.imaging.geometry import resize_image
        from cxr.training.augment import augment_image
        from stage1_classify import config

        rng = np.random.default_rng([epoch, int(image_id)])
        image = resize_image(rng.integers(0, 255, (384, 384), np.uint8), SIDE, SIDE)
        image, _ = augment_image(config.read_member("mnv2_crop").augment, image, None, rng)
        return {"image": np.ascontiguousarray(image[None]), "label": np.float32(1)}


if __name__ == "__main__":
    main()
