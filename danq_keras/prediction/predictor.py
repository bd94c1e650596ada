"""Batched prediction, the mean of both strands, and a split's labels beside its probabilities.

In: models that take one-hot (N, L, 4), A,G,C,T; splits of a store. Out: probabilities (N, T)
float32, in the split's order.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.store import Split
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import Bytes, unpack_labels
from danq_keras.models.networks import logits_model, unpack_windows
from danq_keras.system.command import InputError, progress

Floats = npt.NDArray[np.float32]
N_DEEPSEA = 919
_HALF = ("float16", "bfloat16")


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Exact float32 products: by default TensorFlow rounds their factors to TF32 on newer GPUs."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@dataclass(frozen=True, eq=False)
class SplitPrediction:
    """What a network says of a split.

    `probs` (N, T) float32, the mean over strands where the split has both; `labels` (N, T) uint8;
    `ignore` (N, T) uint8 or None; `loss` mean cross-entropy per strand and label that counts.
    """

    probs: Floats
    labels: Bytes
    ignore: Bytes | None
    loss: float


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network from disk with the names of its targets; `config` is its run's, or empty."""

    network: keras.Model
    targets: Targets
    path: Path
    config: dict[str, Any]


def load_trained(path: Path) -> TrainedModel:
    """Open a run folder or a .keras file; a network of mixed precision then works in float32.

    Raises:
        InputError: nothing readable is there, or it does not map (N, L, 4) to (N, T).
    """
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        runs = sorted(model.parent for model in path.glob("*/model.keras"))
        if runs:
            raise InputError(
                f"{path}: a folder of runs, not a run. Give one of those in it, such as {runs[0]}."
            )
        raise InputError(f"{file}: no such model. Give a run folder or a .keras file.")
    try:
        network = keras.saving.load_model(file, compile=False)
    except (ValueError, OSError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file}: not a readable Keras model ({reason}).") from error
    shapes = network.input_shape, network.output_shape
    if [len(shape) for shape in shapes] != [3, 2] or network.input_shape[2] != 4:
        raise InputError(
            f"{file}: a model maps (N, L, 4) to (N, T). Received: {network.input_shape} to "
            f"{network.output_shape}."
        )
    for layer in network._flatten_layers():  # cells of LSTMs too
        if layer.compute_dtype in _HALF:
            layer.dtype_policy = "float32"
    config_path = file.parent / "config.json"
    config = _read_config(config_path) if config_path.is_file() else {}
    return TrainedModel(network, _target_names(network.output_shape[1], config), path, config)


def window_of(model: TrainedModel) -> int:
    """Window length L of a network.

    Raises:
        InputError: it takes any length, and no run says which.
    """
    length = model.network.input_shape[1] or model.config.get("model", {}).get("window")
    if length is None:
        raise InputError(
            f"{model.path}: takes windows of any length, so none can be cut for it. Give the "
            "windows in an .h5 file with 'testxdata', or a model with a fixed length."
        )
    return int(length)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error}). Restore or remove it.") from error
    return config if isinstance(config, dict) else {}


def _target_names(n_targets: int, config: dict[str, Any]) -> Targets:
    names = config.get("targets")
    if isinstance(names, list) and len(names) == n_targets:
        return Targets(tuple(names))
    if n_targets == N_DEEPSEA:
        return deepsea_targets()
    return Targets(tuple(str(number) for number in range(n_targets)))


class SplitPredictor:
    """Predicts splits with one network; compiled once.

    Args:
        model: network that ends with the layers `logits` and `probability`, or any that gives
            probabilities.
        batch_size: windows at once.
        columns: targets of the splits that the network predicts; None for all.
    """

    def __init__(
        self, model: keras.Model, *, batch_size: int, columns: list[int] | None = None
    ) -> None:
        self.batch_size = batch_size
        self.columns = columns
        self._has_logits = any(layer.name == "logits" for layer in model.layers)
        self._network = logits_model(model) if self._has_logits else model
        self._step = tf.function(self._predict, autograph=False, reduce_retracing=True)

    def _predict(
        self, packed: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor, both: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Strand-mean probabilities of a batch, and its summed loss over strands."""
        onehot = unpack_windows(packed)
        strands = [onehot, onehot[:, ::-1, ::-1]] if both else [onehot]
        probs, losses = [], []
        for strand in strands:
            prob, loss = self._probabilities(strand, labels)
            probs.append(prob)
            losses.append(tf.reduce_sum(loss * valid))
        return tf.add_n(probs) / len(probs), tf.add_n(losses) / len(losses)

    def _probabilities(self, onehot: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = tf.cast(self._network(onehot, training=False), tf.float32)
        if self._has_logits:
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs)
            return tf.sigmoid(outputs), loss
        # Source: the old stack's clipping of probabilities.
        clipped = tf.clip_by_value(outputs, 1e-7, 1 - 1e-7)
        return outputs, -labels * tf.math.log(clipped) - (1 - labels) * tf.math.log1p(-clipped)

    def __call__(self, split: Split, *, desc: str) -> SplitPrediction:
        """Predict every window of a split, in order, with a progress bar."""
        n_targets = split.n_targets
        labels = unpack_labels(split.labels, n_targets)
        ignore = None if split.ignore is None else unpack_labels(split.ignore, n_targets)
        if self.columns is not None:
            labels = labels[:, self.columns]
            ignore = None if ignore is None else ignore[:, self.columns]
        probs = np.empty(labels.shape, np.float32)
        total = 0.0
        with progress(total=split.n_windows, desc=desc, unit="windows") as bar:
            for begin in range(0, split.n_windows, self.batch_size):
                rows = slice(begin, begin + self.batch_size)
                batch = tf.constant(labels[rows], tf.float32)
                valid = (
                    tf.ones((), tf.float32)
                    if ignore is None
                    else tf.constant(1 - ignore[rows], tf.float32)
                )
                probs[rows], loss = self._step(
                    tf.constant(split.sequence[rows]), batch, valid, split.both_strands
                )
                total += float(loss)
                bar.update(len(batch))
        n_counted = labels.size if ignore is None else int(labels.size - ignore.sum())
        return SplitPrediction(probs, labels, ignore, total / max(1, n_counted))
