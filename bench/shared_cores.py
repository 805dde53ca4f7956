"""Training speed alone and beside one busy process, by how the training's threads wait for each other.

python -m bench.shared_cores [--rounds 3] [--seconds 6] [--variants "ours (spin 10,000)" "passive (0)" ...]

Each variant is a process that trains the small classifier (MobileNetV2, 256 x 256, batch 8) as the training loop does.
All are started once and take turns, first alone, then beside a process that only counts. Printed, as medians over the
rounds: images a second; 'cores', the CPU time that the training got a second; images a CPU second, which falls where
threads spin while they wait; 'got', the share of the time in which a thread could run that it had a core, by which
cxr.training.core_contention judges.

Results on two cores (AMD EPYC, bfloat16), images a second alone / beside one process, other work kept off by priority:
libgomp's own wait 27 / 10 (1.2 cores, 8 images a CPU second), ours 27 / 12 (1.0 cores, 12), one thread 18 / 18.
At a load of ten: libgomp's own .4 to 2.4, ours 2.5, spin 1,000 3.6, one thread 4 to 8.
With the cores to itself (real-time priority, 18 starts each, +- .6): libgomp's own 27.9, ours 27.9, spin 1,000 27.0;
passive 26.8 (5 starts), because a sleeping core has to wake. Bound threads were slower. Short time slices, SCHED_BATCH
and nice loaders made no difference beyond chance. OMP_DYNAMIC hung in oneDNN.
The rest of the loss is the lock step: two threads beside one process advance only while both have a core. Fewer threads
than cores do not wait, but change the last bits of sums and cost a third alone, so a run only advises them.
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
    loaders: int | None = None  # processes that load and augment; None: the same batch each time, loaded beforehand
    niceness: int = 0  # of the loaders


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
    parser = argparse.ArgumentParser(
        "python -m bench.shared_cores", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--train", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(VARIANTS[arguments.train])
        return
    load = os.getloadavg()[0]
    print(f"{CORES} cores, {arguments.rounds} rounds of {arguments.seconds:g} s, load {load:.1f}", flush=True)
    print_medians(measure_variants(arguments))
    print(f"load after {os.getloadavg()[0]:.1f}")


def measure_variants(arguments: argparse.Namespace) -> dict[str, list[np.ndarray]]:
    """Of each variant and round what `Training.measure_speed` returns, alone and beside a busy process: [2, 3]."""
    trainings = {name: Training(name) for name in arguments.variants}
    rounds: dict[str, list[np.ndarray]] = {name: [] for name in trainings}
    for _ in range(arguments.rounds):
        for name, training in trainings.items():
            alone = training.measure_speed(arguments.seconds)
            with keep_core_busy():
                rounds[name].append(np.array([alone, training.measure_speed(arguments.seconds)]))
    return rounds


class Training:
    """The process of a variant, which trains for as long as each request says."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, "-m", "bench.shared_cores", "--train", name]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
        environment |= VARIANTS[name].environment
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.process.stdout.readline()  # waits until it is warmed up

    def measure_speed(self, seconds: float) -> list[float]:
        """Images a second; seconds a second that its threads ran, and that they waited for a core."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def keep_core_busy() -> Iterator[None]:
    """Keep one core busy with another process during a `with` block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def print_medians(rounds: dict[str, list[np.ndarray]]) -> None:
    """Print the medians as a table in Markdown, each figure alone and beside the busy process."""
    columns = ("images/s", "cores", "images a CPU second", "got")
    print(f"| variant | {' | '.join(f'{name}, alone | beside' for name in columns)} |")
    print("|---" * (1 + 2 * len(columns)) + "|")
    for name, measurements in rounds.items():
        images_per_second, run_seconds, wait_seconds = np.median(measurements, axis=0).T
        core_share = run_seconds / (run_seconds + wait_seconds)
        pairs = (images_per_second, run_seconds, images_per_second / run_seconds, core_share)
        print(f"| {name} | {' | '.join(f'{alone:.2f} | {shared:.2f}' for alone, shared in pairs)} |")


def train(variant: Variant) -> None:
    """Train for as many seconds as each line of the standard input says; print what `measure_speed` returns."""
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
    """An endless stream of batches."""
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
    """Training data of noise, augmented as the small classifier's (cxr.torchkit.loading.TrainingData)."""

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
