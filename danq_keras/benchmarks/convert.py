"""`benchmark.py convert`: a generated train.mat to a store, against h5py just reading the file."""

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danq_keras.benchmarks.options import option

if TYPE_CHECKING:
    import numpy as np

_POSITIVE_SHARE = 0.02  # about DeepSEA's
_GENERATED_ROWS = 4000
_SLAB_BYTES = 1 << 27


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    rows: int = option(200_000, "rows of the generated train.mat")
    window: int = option(1000, "bases of a window")
    targets: int = option(919, "labels of a row")
    chunk_samples: int = option(100, "samples in a chunk; 0: all of them")
    chunk_positions: int = option(0, "positions in a chunk; 0: the whole window")
    compression: int = option(3, "gzip level of the chunks")
    repeats: int = option(1, "measurements; the best counts")
    dir: Path | None = option(None, "where the files go meanwhile; None: the system's")


def run(options: Options) -> int:
    """Generate, convert, read, compare; the files are deleted."""
    if options.dir is not None:
        options.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="danq-convert-") as name:
        path = Path(name) / "train.mat"
        _generate(path, options)
        peak_before = peak_bytes()
        convert = [_convert(path, Path(name) / f"train{i}.h5") for i in range(options.repeats)]
        peak = peak_bytes()
        read = [_read(path) for _ in range(options.repeats)]
        size = path.stat().st_size
    print(f"train.mat      {options.rows} rows, {size / 1e9:.2f} GB on disk")
    print(f"h5py reads it  {min(read):.2f} s")
    print(f"converted      {min(convert):.2f} s, {options.rows / min(convert):,.0f} rows/s")
    print(f"ratio          {min(convert) / min(read):.2f}")
    print(f"peak memory    {peak / 1e9:.2f} GB ({peak_before / 1e9:.2f} GB before)")
    return 0


def peak_bytes() -> int:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _generate(path: Path, options: Options) -> None:
    """Random bases and labels; the second half is the reverse complement of the first."""
    import h5py
    import numpy as np

    from danq_keras.system.terminal import progress

    rows, window = options.rows // 2 * 2, options.window
    samples = min(options.chunk_samples or rows, rows)
    positions = options.chunk_positions or window
    layout: dict[str, Any] = {"compression": "gzip", "compression_opts": options.compression}
    with h5py.File(path, "w", userblock_size=512) as file:
        x = file.create_dataset(
            "trainxdata", (window, 4, rows), np.uint8, chunks=(positions, 4, samples), **layout
        )
        y = file.create_dataset(
            "traindata",
            (options.targets, rows),
            np.uint8,
            chunks=(options.targets, samples),
            **layout,
        )
        with progress(total=rows, desc="generate", unit="row") as bar:
            if samples > _GENERATED_ROWS:
                _generate_by_positions(x, positions, bar)
                step = max(1, _SLAB_BYTES // rows)
                for begin in range(0, options.targets, step):
                    shape = (min(step, options.targets - begin), rows // 2)
                    half = _random_labels(np.random.default_rng(begin), shape)
                    y[begin : begin + step] = np.concatenate([half, half], axis=1)
                return
            for part in (0, rows // 2):
                step = _GENERATED_ROWS // samples * samples
                for begin in range(0, rows // 2, step):
                    rng = np.random.default_rng(begin)
                    n = min(step, rows // 2 - begin)
                    block = _onehot(rng, (window, n))
                    at = slice(part + begin, part + begin + n)
                    x[..., at] = block[::-1, ::-1] if part else block
                    y[..., at] = _random_labels(rng, (options.targets, n))
                    bar.update(n)


def _generate_by_positions(x: Any, positions: int, bar: Any) -> None:
    """Fill a variable whose chunks span many samples; a position's mate is its mirror image."""
    import numpy as np

    window, _, rows = x.shape
    for begin in range(0, window, positions):
        block = np.empty((min(positions, window - begin), 4, rows), np.uint8)
        for k in range(len(block)):
            forward = _onehot(np.random.default_rng(begin + k), (1, rows // 2))
            mirror = _onehot(np.random.default_rng(window - 1 - begin - k), (1, rows // 2))
            block[k, :, : rows // 2] = forward[0]
            block[k, :, rows // 2 :] = mirror[0, ::-1]
        x[begin : begin + len(block)] = block
        bar.update(round(rows * len(block) / window))


def _onehot(rng: "np.random.Generator", shape: tuple[int, int]) -> "np.ndarray[Any, Any]":
    import numpy as np

    codes = rng.integers(0, 4, shape, np.uint8)
    onehot: np.ndarray[Any, Any] = (codes[:, None] == np.arange(4)[:, None]).astype(np.uint8)
    return onehot


def _random_labels(rng: "np.random.Generator", shape: tuple[int, int]) -> "np.ndarray[Any, Any]":
    import numpy as np

    return (rng.random(shape, np.float32) < _POSITIVE_SHARE).astype(np.uint8)


def _convert(path: Path, out: Path) -> float:
    from danq_keras.data.bundle import write_halves
    from danq_keras.data.deepsea import find_targets, open_split_mat
    from danq_keras.data.store import STRANDS_BOTH, StoreHeader

    begin = time.perf_counter()
    with open_split_mat(path, "train", path.parent) as mat:
        targets = find_targets(path.parent, mat.n_targets)
        header = StoreHeader(mat.window, mat.bin, STRANDS_BOTH, targets, "generated")
        write_halves(mat.rows(lambda _n_bytes: None), out, header, n_rows=mat.n_rows)
    seconds = time.perf_counter() - begin
    out.unlink()
    return seconds


def _read(path: Path) -> float:
    """Read both variables in slabs of whole chunks along the samples, and do nothing with them.

    Where a slab would be too large, in groups of whole chunks along the positions.
    """
    import h5py

    begin = time.perf_counter()
    with h5py.File(path, "r") as file:
        for key in ("trainxdata", "traindata"):
            dataset = file[key]
            chunk = dataset.chunks[-1]
            sample_bytes = dataset.size // dataset.shape[-1]
            if chunk * sample_bytes <= 2 * _SLAB_BYTES:
                step = max(1, _SLAB_BYTES // sample_bytes // chunk) * chunk
                for at in range(0, dataset.shape[-1], step):
                    dataset[..., at : at + step]
            else:
                first = dataset.chunks[0]
                item_bytes = dataset.size // dataset.shape[0]
                step = max(1, _SLAB_BYTES // item_bytes // first) * first
                for at in range(0, dataset.shape[0], step):
                    dataset[at : at + step]
    return time.perf_counter() - begin
