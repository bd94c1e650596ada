"""`benchmark.py loader`: samples a second of the pipeline, against h5py on the .mat layout."""

import functools
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras.benchmarks.options import option
from danq_keras.data.store import STRANDS_BOTH, Split, StoreHeader, open_split
from danq_keras.data.store_write import Rows, SplitWriter
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import pack_codes, unpack_onehot
from danq_keras.system.tensorflow import start_tensorflow

_MAT_CHUNK = 100  # samples a chunk of the generated train.mat


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    windows: int = option(100_000, "simulated windows")
    seconds: float = option(5.0, "time per figure")
    mat_batches: int = option(3, "batches read from the .mat by h5py, the yardstick")


def run(options: Options) -> int:
    """Write a random dataset, read it both ways in the same shuffled order, print the figures."""
    start_tensorflow()
    from danq_keras.training.pipeline import Order, epoch_batches

    with tempfile.TemporaryDirectory() as folder:
        split = _random_split(Path(folder) / "train.h5", options.windows)
        order = Order.of(split, seed=0)
        print(f"{order.n_samples:,} samples of {split.header.window} bases, exactly shuffled")
        yardstick = _read_mat(Path(folder) / "train.mat", split, order.permutation(0), options)
        print(f"h5py, shuffled batches of 100 from the .mat: {yardstick:12,.0f} samples/s")
        for batch_size in (100, 1000):
            for unpacked in (False, True):
                batches = functools.partial(
                    epoch_batches, split, order, batch_size=batch_size, unpacked=unpacked
                )
                rate = _rate(batches, options.seconds)
                form = "float32 one-hot" if unpacked else "packed"
                print(
                    f"pipeline, batches of {batch_size:4}, {form:15}:     {rate:12,.0f} samples/s, "
                    f"{rate / yardstick:,.0f} x"
                )
    return 0


def _random_split(path: Path, n_windows: int) -> Split:
    rng = np.random.default_rng(0)
    targets = Targets(tuple(str(number) for number in range(919)))
    header = StoreHeader(1000, 200, STRANDS_BOTH, targets, "random, for timing")
    block = 10_000
    with SplitWriter(path, header, n_windows=n_windows) as writer:
        for begin in range(0, n_windows, block):
            size = min(block, n_windows - begin)
            codes = rng.integers(0, 4, (size, 1000), dtype=np.uint8)
            labels = rng.integers(0, 256, (size, 115), dtype=np.uint8)
            writer.append(Rows(pack_codes(codes), labels))
    return open_split(path)


def _read_mat(path: Path, split: Split, samples: npt.NDArray[np.int64], options: Options) -> float:
    """Samples a second of reading shuffled batches from DeepSEA's layout, sample axis last."""
    n_windows = min(split.n_windows, 20_000)
    with h5py.File(path, "w") as file:
        shape = (1000, 4, n_windows)
        dataset = file.create_dataset(
            "trainxdata", shape, np.uint8, chunks=(1000, 4, _MAT_CHUNK), compression="gzip"
        )
        for begin in range(0, n_windows, 2000):
            onehot = unpack_onehot(
                np.asarray(split.sequence[begin : begin + 2000]), split.header.window
            )
            dataset[:, :, begin : begin + 2000] = onehot.transpose(1, 2, 0)
    with h5py.File(path, "r") as file:
        started = time.perf_counter()
        for number in range(options.mat_batches):
            batch = np.unique(samples[number * 100 : (number + 1) * 100] % n_windows)
            file["trainxdata"][:, :, batch]
        return float(options.mat_batches * 100 / (time.perf_counter() - started))


def _rate(epoch: Callable[[int], Iterable[Any]], seconds: float) -> float:
    """Samples a second over whole epochs, without the first batch, which starts the pipeline."""
    n_samples, started, number = 0, 0.0, 0
    while True:
        for batch in epoch(number):
            if started == 0.0:
                started = time.perf_counter()
                continue
            n_samples += int(batch[0].shape[0])
            elapsed = time.perf_counter() - started
            if elapsed > seconds:
                return float(n_samples / elapsed)
        number += 1
