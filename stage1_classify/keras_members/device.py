"""What TensorFlow may use of this machine: threads, GPUs, precision, strategy. Once a process, before any tensor."""

import os
import shutil
from functools import cache
from pathlib import Path

import keras
import tensorflow as tf

FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # flags of the CPUs that have instructions for it


@cache
def configure_tensorflow() -> None:
    """Bound the threads, let GPUs' memory grow, make operations deterministic.

    Prints a note if TensorFlow does not see the machine's GPU.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(min(threads, 2))
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()
    if not tf.config.list_physical_devices("GPU") and _has_gpu() and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        print(f"TensorFlow {tf.__version__} sees none of this machine's GPUs: Keras trains on the CPU", flush=True)


def choose_dtype_policy(amp: bool) -> str:
    """Keras's name of the precision: bfloat16 where the GPU or CPU has it, else float32.

    Measured on two cores with AVX-512 BF16 at 256 x 256, training: EfficientNet-B4 1.3, Xception 2.3, VGG16 1.1 times
    as fast. GPUs without bfloat16 train in float32.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        major, _ = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        has_bfloat16 = major >= 8
    else:
        has_bfloat16 = bool(FAST_BFLOAT16 & set(_cpu_flags()))
    return "mixed_bfloat16" if amp and has_bfloat16 else "float32"


@cache
def choose_strategy() -> tf.distribute.Strategy:
    """Every core of a TPU, every GPU, or every logical CPU if several are set up; else one device.

    Hardware on which it was never tried: docs/limits.md.
    """
    if "TPU_NAME" in os.environ or Path("/dev/accel0").exists():
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return (
        tf.distribute.MirroredStrategy([device.name for device in devices]) if len(devices) > 1 else default_strategy()
    )


def default_strategy() -> tf.distribute.Strategy:
    """TensorFlow's default strategy: one device."""
    return tf.distribute.get_strategy()


def set_precision(amp: bool) -> None:
    """Set the precision of the networks built from here on."""
    keras.config.set_dtype_policy(choose_dtype_policy(amp))


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/gpus").is_dir() or shutil.which("nvidia-smi") is not None


def _cpu_flags() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
