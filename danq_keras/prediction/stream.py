"""Predictions of any number of windows, streamed from `inputs.Windows` into a file.

An HDF5 file holds `pred` (N, T) float32 in the input's order, or `embedding` (N, U) float32,
`targets` (T,) UTF-8 and, where the input knows them, `name` (N,), or `chrom` (N,) UTF-8 and
`start`, `end` (N,) int64 of the windows, 0-based and half-open; of a BED file's features also their
`name` and `strand` (N,) UTF-8. With several models `pred` is
their mean and `spread` (N, T) float32 their sample standard deviation. Its attributes say which
strands were predicted and what from. `prediction_files` makes tables and tracks of it. Memory
does not grow with N: a batch is read, predicted and written before the next.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from danq_keras.data.inputs import Windows
from danq_keras.genome.dna import Bytes
from danq_keras.models.networks import unpack_windows
from danq_keras.prediction.growing import Contents, growing_file, kind_of
from danq_keras.prediction.predictor import Floats, TrainedModel, without_tf32
from danq_keras.system.command import InputError, log, progress, signals_deferred

STRANDS = ("forward", "both")
PROBABILITIES, EMBEDDING = "probabilities", "embedding"
_MOST_ROWS = 2048
_CPU_BYTES, _GPU_BYTES = 1 << 28, 1 << 32


@dataclass(frozen=True)
class Request:
    """What is predicted.

    `strands`: see `WindowPredictor`; `output`: `PROBABILITIES`, or `EMBEDDING` for the units of
    the layer `dense`; `targets`: their numbers, None for all; `batch_size`: windows at once, None
    for what fits the network and the device.
    """

    strands: str
    output: str = PROBABILITIES
    targets: tuple[int, ...] | None = None
    batch_size: int | None = None


def check_window(model: TrainedModel, windows: Windows) -> None:
    """Refuse windows of another length than the network's.

    Raises:
        InputError: the lengths differ.
    """
    length = model.network.input_shape[1]
    if length not in (None, windows.window):
        raise InputError(
            f"{windows.path}: windows of {windows.window} bases, but {model.path} takes {length}. "
            "Use windows of that length, or a model of the other."
        )


class WindowPredictor:
    """Probabilities of packed windows; compiled once.

    Args:
        network: one-hot (N, L, 4), A,G,C,T → probabilities (N, T), or other values.
        window: L.
        strands: "forward": the rows as they are; "both": the mean of the probabilities of a row
            and of its reverse complement.
    """

    def __init__(self, network: keras.Model, *, window: int, strands: str) -> None:
        if strands not in STRANDS:
            raise ValueError(f"strands is one of {', '.join(STRANDS)}. Received: {strands!r}.")
        self._network = network
        self._both = strands == "both"
        signature = tf.TensorSpec((None, window // 2), tf.uint8)
        self._step = tf.function(self._predict, input_signature=[signature], autograph=False)

    def _predict(self, packed: tf.Tensor) -> tf.Tensor:
        onehot = unpack_windows(packed)
        probs = tf.cast(self._network(onehot, training=False), tf.float32)
        if not self._both:
            return probs
        reverse = self._network(onehot[:, ::-1, ::-1], training=False)
        return (probs + tf.cast(reverse, tf.float32)) / 2

    def __call__(self, packed: Bytes) -> Floats:
        """Probabilities (n, T) float32 of packed rows (n, L/2), in float32 without TF32.

        Raises:
            InputError: the device has no memory for so many rows at once.
        """
        try:
            return self.unguarded(packed)
        except tf.errors.ResourceExhaustedError as error:
            raise InputError(
                f"--batch-size: no memory for {len(packed)} windows at once. Make it smaller."
            ) from error

    def unguarded(self, packed: Bytes) -> Floats:
        """As a call, but a device without memory for so many rows raises TensorFlow's error."""
        # Deferred: TensorFlow makes other errors of a stop that comes while it traces.
        with without_tf32(), signals_deferred():
            return np.asarray(self._step(tf.constant(packed)).numpy(), np.float32)


def automatic_batch_size(network: keras.Model) -> int:
    """Windows at once, a power of two, whose layer outputs fit a share of the device's memory."""
    window = network.input_shape[1] or 1000
    values = 0
    for layer in network.layers:
        shapes = tf.nest.flatten(getattr(layer, "output", []))
        values += sum(math.prod(size or window for size in s.shape[1:]) for s in shapes)
    budget = _GPU_BYTES if tf.config.list_physical_devices("GPU") else _CPU_BYTES
    most = max(1, budget // max(1, 4 * values))
    return int(min(_MOST_ROWS, 1 << (most.bit_length() - 1)))


class AdaptiveBatches:
    """Predicts rows in batches of a size that is halved when the device has no memory for it.

    Args:
        predictor: of packed windows.
        batch_size: windows at once, which are then not halved; None for an automatic size.
        network: what the automatic size is fitted to.
    """

    def __init__(
        self, predictor: WindowPredictor, *, batch_size: int | None, network: keras.Model
    ) -> None:
        self._predictor = predictor
        self._automatic = batch_size is None
        self.batch_size = batch_size or automatic_batch_size(network)

    def __call__(self, packed: Bytes) -> Floats:
        """Values (n, K) float32 of packed rows (n, L/2).

        Raises:
            InputError: the device has no memory for a batch of the size that was asked for.
        """
        while self._automatic and self.batch_size > 1:
            try:
                return self._in_batches(packed, self._predictor.unguarded)
            except tf.errors.ResourceExhaustedError:
                self.batch_size //= 2
                log.info("No memory for so many windows at once: now %d.", self.batch_size)
        return self._in_batches(packed, self._predictor)

    def _in_batches(self, packed: Bytes, predict: Any) -> Floats:
        size = self.batch_size
        parts = [predict(packed[at : at + size]) for at in range(0, len(packed), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def embedding_model(model: TrainedModel) -> keras.Model:
    """The network up to the units (N, U) of its layer `dense`.

    Raises:
        InputError: it has no such layer.
    """
    names = [layer.name for layer in model.network.layers]
    if "dense" not in names:
        raise InputError(
            f"{model.path}: --output embedding gives the layer 'dense'. Received a model with the "
            f"layers {', '.join(names)}. Use a DanQ model."
        )
    return keras.Model(model.network.input, model.network.get_layer("dense").output)


def check_ensemble(models: Sequence[TrainedModel]) -> list[list[int]]:
    """For each model, the numbers of its targets in the order of the first one's.

    Raises:
        InputError: the models differ in window length or in their targets' names.
    """
    first = models[0]
    orders = []
    for model in models:
        lengths = first.network.input_shape[1], model.network.input_shape[1]
        if lengths[0] != lengths[1]:
            raise InputError(
                f"--ensemble: {model.path} takes windows of {lengths[1]} bases, {first.path} of "
                f"{lengths[0]}. Use models of one window length."
            )
        differing = sorted(set(first.targets.names) ^ set(model.targets.names))
        if differing:
            raise InputError(
                f"--ensemble: {model.path} and {first.path} must have the same targets. Only one "
                f"of them has {len(differing)}, such as {differing[0]!r}. Use models of one "
                "dataset."
            )
        numbers = {name: i for i, name in enumerate(model.targets.names)}
        orders.append([numbers[name] for name in first.targets.names])
    return orders


class _Values:
    """Everything that one request asks for of a batch of rows."""

    def __init__(self, models: Sequence[TrainedModel], window: int, request: Request) -> None:
        self._orders = check_ensemble(models)
        networks = [model.network for model in models]
        self.names = ("pred",) if len(models) == 1 else ("pred", "spread")
        wanted = request.targets or range(len(models[0].targets))
        self.columns = models[0].targets.subset(list(wanted)).names
        self._numbers = [[order[i] for i in wanted] for order in self._orders]
        if request.output == EMBEDDING:
            networks = [embedding_model(models[0])]
            units = networks[0].output_shape[-1]
            self.names, self.columns = (EMBEDDING,), tuple(f"unit{i}" for i in range(units))
            self._numbers = [list(range(units))]
        self._predictors = [
            AdaptiveBatches(
                WindowPredictor(network, window=window, strands=request.strands),
                batch_size=request.batch_size,
                network=network,
            )
            for network in networks
        ]
        self.batch_size = max(predictor.batch_size for predictor in self._predictors)

    def __call__(self, packed: Bytes) -> dict[str, Floats]:
        """Name → (n, K) float32."""
        each = [
            predictor(packed)[:, numbers]
            for predictor, numbers in zip(self._predictors, self._numbers, strict=True)
        ]
        if len(each) == 1:
            return {self.names[0]: each[0]}
        values = np.stack(each).astype(np.float64)
        return {
            "pred": values.mean(axis=0).astype(np.float32),
            "spread": values.std(axis=0, ddof=1).astype(np.float32),
        }


def write_predictions(
    models: Sequence[TrainedModel],
    windows: Windows,
    *,
    out: Path,
    request: Request,
    resume: bool = False,
    overwrite: bool = False,
) -> int:
    """Predict all windows into `out`, which appears complete or not at all.

    Args:
        models: the network and the names of its targets; several give their mean and spread.
        windows: what to predict.
        out: .h5, .tsv, .tsv.gz, .bw, or a folder of tracks.
        request: what of it.
        resume: go on with an unfinished `out`, see `prediction_files.growing_file`.
        overwrite: replace `out`.

    Returns:
        How many windows have more unknown bases than known ones.

    Raises:
        InputError: the windows do not fit the network or are damaged, `out` exists, or a
            prediction is not a finite number.
    """
    check_window(models[0], windows)
    values = _Values(models, windows.window, request)
    check_output(out, windows, values.names, n_targets=len(values.columns))
    described = {
        **_describe(models, windows),
        "strands": request.strands,
        "targets": values.columns,
    }
    contents = Contents(values.names, values.columns, described)
    with growing_file(out, windows, contents, resume=resume, overwrite=overwrite) as file:
        begin = file.rows_done
        with progress(
            total=windows.n_windows, desc="predict", unit="windows", initial=begin
        ) as bar:
            for packed in _batches(windows.blocks(begin), values.batch_size):
                batch = values(packed)
                _check_finite(batch, windows, begin)
                file.n_unknown += _mostly_unknown(packed)
                file.append(batch, windows.columns(begin, begin + len(packed)))
                begin += len(packed)
                bar.update(len(packed))
    if begin != windows.n_windows:
        raise ValueError(f"{begin} rows predicted, {windows.n_windows} announced.")
    return file.n_unknown


def check_output(out: Path, windows: Windows, values: Sequence[str], *, n_targets: int) -> None:
    """Refuse bigWig tracks of what has no place along chromosomes.

    Raises:
        InputError: the windows are not tiles, tiles leave gaps, or one file is asked to hold more
            than one track.
    """
    kind = kind_of(out)
    if kind not in ("track", "tracks"):
        return
    if windows.tiling is None or EMBEDDING in values:
        raise InputError(
            f"{out}: bigWig tracks are of probabilities along a FASTA with --tile STEP. Add that, "
            "or choose a name that ends in .h5 or .tsv."
        )
    if windows.tiling.step > windows.window:
        raise InputError(
            f"--tile: at most the window of {windows.window} bases for bigWig tracks. Received: "
            f"{windows.tiling.step}. Choose a smaller step."
        )
    if kind == "track" and (n_targets > 1 or len(values) > 1):
        raise InputError(
            f"{out}: a .bw file is one track; {n_targets} targets × {len(values)} values were "
            "asked for. Choose one with --targets, or give a folder (a name without ending)."
        )


def _describe(models: Sequence[TrainedModel], windows: Windows) -> dict[str, Any]:
    """What decides the predictions, so that only the same are continued."""
    stat = windows.path.stat()
    tiling = windows.tiling
    return {
        "model": " ".join(str(model.path) for model in models),
        "weights": [weights_digest(model.network) for model in models],
        "input": [str(windows.path.resolve()), stat.st_size, stat.st_mtime_ns],
        "windows": [windows.n_windows, windows.window],
        "tile": None if tiling is None else [tiling.step, *tiling.lengths],
    }


def weights_digest(network: keras.Model) -> str:
    """SHA-256 of a network's weights: equal weights, equal predictions."""
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def _batches(blocks: Iterable[Bytes], size: int) -> Iterator[Bytes]:
    """The rows of blocks of any length, `size` at a time."""
    held: list[Bytes] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        if n_held < size:
            continue
        rows = held[0] if len(held) == 1 else np.concatenate(held)
        whole = len(rows) - len(rows) % size
        yield from (rows[at : at + size] for at in range(0, whole, size))
        held, n_held = [rows[whole:]], len(rows) - whole
    if n_held:
        yield np.concatenate(held)


def _mostly_unknown(packed: Bytes) -> int:
    """Rows (n, L/2) with fewer known bases, each a bit, than unknown ones."""
    known = np.bitwise_count(packed).sum(axis=1, dtype=np.int64)
    return int((known < packed.shape[1]).sum())


def _check_finite(batch: dict[str, Floats], windows: Windows, begin: int) -> None:
    for values in batch.values():
        wrong = ~np.isfinite(values).all(axis=1)
        if wrong.any():
            raise InputError(
                f"{windows.path}: the model's prediction of row {begin + int(wrong.argmax())} is "
                "not a finite number. Its weights are damaged: use another model."
            )
