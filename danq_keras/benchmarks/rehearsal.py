"""`benchmark.py rehearsal`: the main job on a bundle of DeepSEA's full size, stage by stage.

The bundle is simulated: random bases in blocks that are repeated, labels of 919 targets at random,
two in a hundred positive. Its compressed chunks are written as they are, so that making 21 GB of
one-hot takes minutes. What is measured is time and memory; the figures of the test say nothing.
"""

import csv
import itertools
import logging
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danq_keras.benchmarks.convert import peak_bytes
from danq_keras.benchmarks.options import option
from danq_keras.benchmarks.products import tell_products

if TYPE_CHECKING:
    import numpy as np

_BLOCK_ROWS = 1000
_BLOCKS = 40  # different ones
_POSITIVE_SHARE = 0.02  # about DeepSEA's
_TARGETS, _WINDOW = 919, 1000
_STAGES = {  # what a message of the package ends
    "Run ": "checksums, network",
    "To beat": "baselines",
    "Best validation": "training steps and validation",
    "Thresholds": "thresholds on validation",
    "Predicted": "test, both strands",
    "Figures": "AUCs, calibration",
    "Report: ": "tables, comparison with the paper, report",
}


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    preset: str = option("danq", "recipe that is trained")
    steps: int = option(50, "training steps, of 100 samples")
    train: int = option(4_400_000, "rows of train.mat, both strands")
    valid: int = option(8_000, "rows of valid.mat")
    test: int = option(455_024, "rows of test.mat")
    dir: Path | None = option(None, "where the files go meanwhile; None: the system's")


@dataclass(frozen=True)
class _Stage:
    """Seconds; bytes at the peak, mapped files with them, and without."""

    name: str
    seconds: float
    peak: float
    own: float


class _Stages(logging.Handler):
    """Ends a stage where the package says so; time and peak memory of each."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.rows: list[_Stage] = []
        self._own = _Watch()
        self._begin()

    def _begin(self) -> None:
        self._started = time.perf_counter()
        self._own.forget()
        _forget_peak()

    def end(self, stage: str) -> None:
        """What came since the last stage was this one."""
        seconds = time.perf_counter() - self._started
        self.rows.append(_Stage(stage, seconds, _peak_bytes(), self._own.most()))
        self._begin()

    def close(self) -> None:
        """Look at the memory no more."""
        self._own.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        for begin, stage in _STAGES.items():
            if record.getMessage().startswith(begin):
                self.end(stage)


def run(options: Options) -> int:
    """Simulate, convert, train some steps, test, report; the files are deleted."""
    tell_products()
    if options.dir is not None:
        options.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="danq-rehearsal-") as name:
        folder = Path(name)
        started = time.perf_counter()
        _make_bundle(folder / "bundle", options)
        print(f"the bundle was simulated in {time.perf_counter() - started:.0f} s")
        stages = _rehearse(folder, options)
    whole = sum(stage.seconds for stage in stages)
    peaks = (max(stage.peak for stage in stages), max(stage.own for stage in stages))
    print(f"\n{'':54} {'peak memory, GB':>16}")
    print(f"{'stage':45} {'seconds':>8} {'all':>8} {'its own':>8}")
    for each in [*stages, _Stage("all", whole, *peaks)]:
        memory = f"{each.peak / 1e9:8.2f} {each.own / 1e9:8.2f}"
        print(f"{each.name:45} {each.seconds:8.1f} {memory}")
    print("its own: without the mapped pages of the dataset, which the system takes back at need")
    return 0


def _rehearse(folder: Path, options: Options) -> list[_Stage]:
    from danq_keras.system.tensorflow import start_tensorflow

    start_tensorflow()
    from danq_keras.data.bundle import open_dataset
    from danq_keras.system.terminal import log
    from danq_keras.training.request import TrainRequest
    from danq_keras.training.run import run_request

    settings = {"epochs": 1, "batch_size": 100, "train_limit": 50 * options.steps}
    stages = _Stages()
    level = log.level
    try:
        open_dataset(folder / "bundle", store=folder / "store")
        stages.end("conversion")
        log.addHandler(stages)
        request = TrainRequest(
            data=folder / "store", preset=options.preset, settings=settings, out=folder / "run"
        )
        log.setLevel(logging.DEBUG)
        run_request(request)
    finally:
        log.removeHandler(stages)
        log.setLevel(level)
        stages.close()
    with (folder / "run" / "history.csv").open(newline="") as file:
        of_steps = float(next(csv.DictReader(file))["seconds"])
    return [row for stage in stages.rows for row in _told_apart(stage, of_steps, options.steps)]


def _told_apart(stage: _Stage, of_steps: float, steps: int) -> list[_Stage]:
    if stage.name != _STAGES["Best validation"]:
        return [stage]
    names = (f"{steps} training steps, the first compiles", "validation, checkpoint, model")
    times = (of_steps, stage.seconds - of_steps)
    return [
        _Stage(name, seconds, stage.peak, stage.own)
        for name, seconds in zip(names, times, strict=True)
    ]


class _Watch:
    """Looks ten times a second how much memory is the process's own (Linux)."""

    def __init__(self) -> None:
        self._most = 0
        self._closed = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._closed.wait(0.1):
            self._most = max(self._most, _status_bytes("RssAnon:"))

    def close(self) -> None:
        """End the thread that looks."""
        self._closed.set()

    def forget(self) -> None:
        """Count from now on."""
        self._most = 0

    def most(self) -> int:
        """Bytes; 0 where the system does not say."""
        return max(self._most, _status_bytes("RssAnon:"))


def _forget_peak() -> None:
    """Have the system count the peak from now on, where it can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes() -> int:
    """Since the last stage; where the system cannot count so, of the whole process."""
    return _status_bytes("VmHWM:") or peak_bytes()


def _status_bytes(name: str) -> int:
    """A figure of the process's status; 0 where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _make_bundle(folder: Path, options: Options) -> None:
    """train.mat (MATLAB 7.3), valid.mat and test.mat (MATLAB 5) of repeated blocks."""
    import numpy as np

    from danq_keras.data.deepsea import labels_key, sequence_key
    from danq_keras.data.matlab_writer import BitVariable, write_matlab5
    from danq_keras.genome.dna import pack_codes, pack_labels, reverse_complement_codes

    folder.mkdir()
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 4, (_BLOCK_ROWS, _WINDOW), np.uint8) for _ in range(_BLOCKS)]
    labels = [rng.random((_BLOCK_ROWS, _TARGETS)) < _POSITIVE_SHARE for _ in range(_BLOCKS)]
    _write_train(folder / "train.mat", codes, labels, options.train)
    bits = [pack_labels(each) for each in labels]
    strands = (
        [pack_codes(each) for each in codes],
        [pack_codes(reverse_complement_codes(each)) for each in codes],
    )
    for name, n_rows in (("valid", options.valid), ("test", options.test)):
        half = n_rows // 2
        sequence = itertools.chain(*(_repeated(each, half) for each in strands))
        variables = [
            BitVariable(sequence_key(name), (_WINDOW, 4), 2 * half, sequence),
            BitVariable(
                labels_key(name),
                (_TARGETS,),
                2 * half,
                itertools.chain(*(_repeated(bits, half) for _ in strands)),
            ),
        ]
        write_matlab5(folder / f"{name}.mat", variables)


def _repeated(blocks: "list[np.ndarray[Any, Any]]", n_rows: int) -> Any:
    for number in range(-(-n_rows // _BLOCK_ROWS)):
        yield blocks[number % len(blocks)][: n_rows - number * _BLOCK_ROWS]


def _write_train(
    path: Path,
    codes: "list[np.ndarray[Any, Any]]",
    labels: "list[np.ndarray[Any, Any]]",
    n_rows: int,
) -> None:
    """The second half is the reverse complement of the first, in whole blocks."""
    import h5py
    import numpy as np

    from danq_keras.data.deepsea import labels_key, sequence_key
    from danq_keras.genome.dna import onehot_from_codes
    from danq_keras.system.terminal import progress

    n_blocks = max(1, n_rows // 2 // _BLOCK_ROWS)
    rows = 2 * n_blocks * _BLOCK_ROWS
    onehot = [onehot_from_codes(each).transpose(1, 2, 0) for each in codes]
    halves = (
        [_compressed(each) for each in onehot],
        [_compressed(each[::-1, ::-1]) for each in onehot],
    )
    packed = [_compressed(each.T.astype(np.uint8)) for each in labels]
    layout: dict[str, Any] = {"compression": "gzip", "compression_opts": 1}
    with h5py.File(path, "w", userblock_size=512) as file:
        x = file.create_dataset(
            sequence_key("train"),
            (_WINDOW, 4, rows),
            np.uint8,
            chunks=(_WINDOW, 4, _BLOCK_ROWS),
            **layout,
        )
        y = file.create_dataset(
            labels_key("train"),
            (_TARGETS, rows),
            np.uint8,
            chunks=(_TARGETS, _BLOCK_ROWS),
            **layout,
        )
        with progress(total=rows, desc="simulate train.mat", unit="row") as bar:
            for half, chunks in enumerate(halves):
                for number in range(n_blocks):
                    at = (half * n_blocks + number) * _BLOCK_ROWS
                    x.id.write_direct_chunk((0, 0, at), chunks[number % _BLOCKS])
                    y.id.write_direct_chunk((0, at), packed[number % _BLOCKS])
                    bar.update(_BLOCK_ROWS)


def _compressed(values: "np.ndarray[Any, Any]") -> bytes:
    import numpy as np

    return zlib.compress(np.ascontiguousarray(values).tobytes(), 1)
