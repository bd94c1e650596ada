"""`benchmark.py train`: samples a second of a training step, beside a PyTorch twin.

Under TensorFlow the step is the trainer's own; under another Keras backend (KERAS_BACKEND=jax or
torch) it is Keras' `train_on_batch` of the same network, loss and optimizer. The twin is the same
network written in PyTorch, with the same formula of RMSprop (epsilon inside the root).
"""

import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from danq_keras.benchmarks.options import option
from danq_keras.benchmarks.products import tell_products
from danq_keras.recipes.config import ModelConfig, Preset
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError

EPOCH_SAMPLES = 4_400_000  # Source: DeepSEA's train.mat, both strands


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    preset: str = option("danq", "recipe whose network is timed")
    precision: str = option("float32", "float32, mixed_float16 or mixed_bfloat16")
    batch_sizes: str = option("100,1000", "samples a step, separated by commas")
    steps: int = option(5, "timed steps")
    no_twin: bool = option(False, "leave the PyTorch twin out")
    peak_tflops: float | None = option(
        None, "the device's peak at this precision (default: what this machine's products reach)"
    )


def floating_point_operations(config: ModelConfig) -> float:
    """Operations of a training step for one sample: three times the matrix products forward."""
    length = config.window - config.kernel_size + 1
    if isinstance(config.filters, tuple):
        total, channels, length = 0.0, 4, config.window
        for number, filters in enumerate(config.filters):
            length = length - config.kernel_size + 1
            total += 2.0 * length * config.kernel_size * channels * filters
            length = length // config.pool_size if number < 2 else length
            channels = filters
        width = channels
    else:
        total = 2.0 * length * config.kernel_size * 4 * config.filters
        length, width = config.pooled_length(), config.filters
        for _ in range(config.lstm_layers):
            total += 2.0 * length * 2 * (width + config.lstm_units) * 4 * config.lstm_units
            width = 2 * config.lstm_units
    total += 2.0 * length * width * config.dense_units
    total += 2.0 * config.dense_units * config.n_targets
    return 3 * total


def run(options: Options) -> int:
    """Time the steps and print a line each.

    Raises:
        InputError: unknown preset or precision, or batch sizes that are not numbers.
    """
    preset = apply_settings(get_preset(options.preset), {"precision": options.precision})
    try:
        sizes = [int(text) for text in options.batch_sizes.split(",")]
    except ValueError as error:
        raise InputError(
            f"`batch_sizes`: numbers separated by commas. Received: {options.batch_sizes!r}."
        ) from error
    rate_of_products = tell_products()
    peak = options.peak_tflops or rate_of_products / 1e12
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    make = _tensorflow_step if backend == "tensorflow" else _keras_step
    for size in sizes:
        rng = np.random.default_rng(0)
        sequence = rng.integers(0, 4, (size, preset.model.window), dtype=np.uint8)
        labels = (rng.random((size, preset.model.n_targets)) < 0.02).astype(np.float32)
        step = make(preset, sequence, labels)
        rate = _rate(step, size, options.steps)
        _print(f"Keras/{backend}", preset, size, rate, peak)
        if options.no_twin or importlib.util.find_spec("torch") is None:
            continue
        from danq_keras.benchmarks import pytorch_twin

        twin = pytorch_twin.make_step(preset, sequence, labels)
        twin_rate = _rate(twin, size, options.steps)
        _print("PyTorch twin", preset, size, twin_rate, peak)
        print(f"  ratio to the twin: {rate / twin_rate:.2f} x")
    return 0


def _rate(step: Callable[[], float], size: int, steps: int) -> float:
    """Samples a second; `step` waits for its result. Two steps compile and warm up."""
    for _ in range(2):
        step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * size / (time.perf_counter() - started)


def _print(name: str, preset: Preset, size: int, rate: float, peak: float) -> None:
    operations = floating_point_operations(preset.model) * rate / 1e12
    seconds = EPOCH_SAMPLES / rate
    epoch = f"{seconds / 3600:.2f} h" if seconds > 5400 else f"{seconds / 60:.1f} min"
    print(
        f"{name:16} {preset.name}, {preset.train.precision}, batch {size}: {rate:,.0f} samples/s, "
        f"{1000 * size / rate:.1f} ms a step, 4.4 M samples in {epoch}, {operations:.3f} TFLOP/s, "
        f"{100 * operations / peak:.0f} % of the peak"
    )


def _tensorflow_step(preset: Preset, sequence: Any, labels: Any) -> Callable[[], float]:
    """The trainer's step on one batch that is already in memory."""
    from danq_keras.system.tensorflow import start_tensorflow

    start_tensorflow()
    import tensorflow as tf

    from danq_keras.genome.dna import pack_codes, pack_labels
    from danq_keras.training.step import TrainingStep

    step = TrainingStep(preset.model, preset.train)
    batch = (tf.constant(pack_codes(sequence)), tf.constant(pack_labels(labels)))
    return lambda: float(step(batch)[0])


def _keras_step(preset: Preset, sequence: Any, labels: Any) -> Callable[[], float]:
    """Keras' own step under whatever backend is set, on one-hot input."""
    from danq_keras.benchmarks.keras_step import make_step

    return make_step(preset, sequence, labels)
