"""Predictions of any number of windows, streamed from `inputs.Windows` into an HDF5 file.

The file holds `pred` (N, T) float32 in the input's order, `targets` (T,) UTF-8 and, where the
input knows them, `chrom` (N,) UTF-8 and `start`, `end` (N,) int64 of the windows, 0-based and
half-open. Its attributes say which strands were predicted and what from. Memory does not grow with
N: a batch is read, predicted and written before the next.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from danq_keras import __version__
from danq_keras.console import InputError, atomic_output, progress
from danq_keras.dna import Bytes
from danq_keras.inputs import Windows
from danq_keras.models import unpack_windows
from danq_keras.predict import Floats, TrainedModel, without_tf32
from danq_keras.store import reserve_space

STRANDS = ("forward", "both")


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
        network: one-hot (N, L, 4), A,G,C,T → probabilities (N, T).
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
            with without_tf32():
                return np.asarray(self._step(tf.constant(packed)).numpy(), np.float32)
        except tf.errors.ResourceExhaustedError as error:
            raise InputError(
                f"--batch-size: no memory for {len(packed)} windows at once. Make it smaller."
            ) from error


def write_predictions(
    model: TrainedModel,
    windows: Windows,
    out: Path,
    *,
    strands: str,
    batch_size: int = 200,
    overwrite: bool = False,
) -> None:
    """Predict all windows into `out`, which appears complete or not at all.

    Args:
        model: the network and the names of its targets.
        windows: what to predict.
        out: HDF5 file, see the module's description.
        strands: see `WindowPredictor`.
        batch_size: windows at once.
        overwrite: replace `out`.

    Raises:
        InputError: the windows do not fit the network or are damaged, `out` exists, or a
            prediction is not a finite number.
    """
    check_window(model, windows)
    predictor = WindowPredictor(model.network, window=windows.window, strands=strands)
    with atomic_output(out, overwrite=overwrite) as temporary:
        temporary.touch(exist_ok=False)  # says why, where h5py would only say no
        with _prediction_file(temporary, model, windows) as file:
            file.attrs["strands"] = strands
            _fill(file["pred"], predictor, windows, batch_size=batch_size)


@contextlib.contextmanager
def _prediction_file(path: Path, model: TrainedModel, windows: Windows) -> Iterator[h5py.Dataset]:
    """A file with everything but the values of `pred`, whose space is taken already."""
    file = h5py.File(path, "w", libver=("v110", "v110"))
    try:
        shape = (windows.n_windows, len(model.targets))
        file.create_dataset("pred", shape, np.float32)
        names = np.array(model.targets.names, object)
        file.create_dataset("targets", data=names, dtype=h5py.string_dtype("utf-8"))
        _write_coordinates(file, windows)
        file.attrs.update(
            {
                "model": str(model.path),
                "source": str(windows.path),
                "package_version": __version__,
            }
        )
        reserve_space(file, file["pred"].nbytes)
        yield file
        size = file.id.get_filesize()
        file.close()
        os.truncate(path, size)  # gives back what was reserved for metadata
    except BaseException:
        with contextlib.suppress(OSError, RuntimeError):  # the first error is the one to show
            file.close()
        raise


def _write_coordinates(file: h5py.File, windows: Windows) -> None:
    if windows.chrom is None or windows.start is None:
        return
    chrom = np.char.encode(windows.chrom, "utf-8")
    text = h5py.string_dtype("utf-8", max(1, chrom.dtype.itemsize))
    # Cast, since HDF5 refuses to turn plain bytes into UTF-8 text.
    file.create_dataset("chrom", data=chrom.astype(text), dtype=text)
    start = windows.start.astype(np.int64)
    file.create_dataset("start", data=start)
    file.create_dataset("end", data=start + windows.window)


def _fill(
    pred: h5py.Dataset, predictor: WindowPredictor, windows: Windows, *, batch_size: int
) -> None:
    begin = 0
    blocks = windows.blocks()
    with progress(total=windows.n_windows, desc="predict", unit="windows") as bar:
        for block in blocks:
            for first in range(0, len(block), batch_size):
                probs = predictor(block[first : first + batch_size])
                _check_finite(probs, windows, begin)
                pred[begin : begin + len(probs)] = probs
                begin += len(probs)
                bar.update(len(probs))
    if begin != windows.n_windows:
        raise ValueError(f"{begin} rows predicted, {windows.n_windows} announced.")


def _check_finite(probs: Floats, windows: Windows, begin: int) -> None:
    wrong = ~np.isfinite(probs).all(axis=1)
    if wrong.any():
        raise InputError(
            f"{windows.path}: the model's prediction of row {begin + int(wrong.argmax())} is not a "
            "finite number. Its weights are damaged: use another model."
        )
